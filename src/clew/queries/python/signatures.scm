; Functions by their names and bodies.
(function_definition name: (_) @signature.name body: (_) @signature.body) @signature

; A body that only says that it is missing, with or without a docstring.
(function_definition body: (block . (pass_statement) .)) @stub
(function_definition body: (block . (expression_statement (ellipsis)) .)) @stub
(function_definition body: (block . (expression_statement (string)) . (pass_statement) .)) @stub
(function_definition body: (block . (expression_statement (string)) . (expression_statement (ellipsis)) .)) @stub
(function_definition body: (block . (expression_statement (string)) .)) @stub
(function_definition body: (block . (raise_statement (_) @_error) .) (#match? @_error "^NotImplementedError")) @stub
(function_definition body: (block . (expression_statement (string)) . (raise_statement (_) @_error) .)
  (#match? @_error "^NotImplementedError")) @stub
