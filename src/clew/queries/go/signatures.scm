; Functions by their names and bodies; those without a body are written elsewhere or to be written.
(function_declaration name: (_) @signature.name body: (_) @signature.body) @signature
(function_declaration name: (_) @signature.name) @signature
(method_declaration name: (_) @signature.name body: (_) @signature.body) @signature
(method_elem name: (_) @signature.name) @signature

; A body that only says that it is missing.
(function_declaration body: (block (statement_list .
    (expression_statement (call_expression function: (identifier) @_panic
      arguments: (argument_list . [(interpreted_string_literal) (raw_string_literal)] @_why))) .))
  (#eq? @_panic "panic") (#match? @_why "(?i)not.?(yet.?)?implemented|unimplemented|todo")) @stub
(method_declaration body: (block (statement_list .
    (expression_statement (call_expression function: (identifier) @_panic
      arguments: (argument_list . [(interpreted_string_literal) (raw_string_literal)] @_why))) .))
  (#eq? @_panic "panic") (#match? @_why "(?i)not.?(yet.?)?implemented|unimplemented|todo")) @stub
