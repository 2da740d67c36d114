; Functions by their names and bodies; those without a body are to be written.
(function_declaration name: (_) @signature.name body: (_) @signature.body) @signature
(generator_function_declaration name: (_) @signature.name body: (_) @signature.body) @signature
(method_definition name: (_) @signature.name body: (_) @signature.body) @signature
(function_signature name: (_) @signature.name) @signature
(method_signature name: (_) @signature.name) @signature
(abstract_method_signature name: (_) @signature.name) @signature
(lexical_declaration
  (variable_declarator name: (identifier) @signature.name
    value: [(arrow_function body: (_) @signature.body) (function_expression body: (_) @signature.body)])) @signature
(public_field_definition name: (_) @signature.name value: (arrow_function body: (_) @signature.body)) @signature
(export_statement declaration: (_) @wrapped) @wrapper
(ambient_declaration (_) @wrapped) @wrapper

; A body that only says that it is missing.
(function_declaration body: (statement_block . (throw_statement (new_expression arguments: (arguments . (string) @_why))) .)
  (#match? @_why "(?i)not.?(yet.?)?implemented|unimplemented|todo")) @stub
(method_definition body: (statement_block . (throw_statement (new_expression arguments: (arguments . (string) @_why))) .)
  (#match? @_why "(?i)not.?(yet.?)?implemented|unimplemented|todo")) @stub
