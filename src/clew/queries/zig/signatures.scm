; Functions by their names and bodies; those without a body are external.
(function_declaration name: (_) @signature.name body: (_) @signature.body) @signature
(function_declaration name: (_) @signature.name) @signature

; A body that only says that it is missing.
(function_declaration body: (block . (expression_statement (builtin_function (builtin_identifier) @_panic
    (arguments . (string) @_why))) .)
  (#eq? @_panic "@panic") (#match? @_why "(?i)not.?(yet.?)?implemented|unimplemented|todo")) @stub
(function_declaration body: (block . (expression_statement (builtin_function (builtin_identifier) @_error)) .)
  (#eq? @_error "@compileError")) @stub
