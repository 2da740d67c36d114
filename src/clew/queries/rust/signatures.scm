; Functions by their names and bodies; those without a body are to be written.
(function_item name: (_) @signature.name body: (_) @signature.body) @signature
(function_signature_item name: (_) @signature.name) @signature

; A body that only says that it is missing.
(function_item body: (block . (macro_invocation macro: (identifier) @_macro) .)
  (#any-of? @_macro "todo" "unimplemented")) @stub
(function_item body: (block . (expression_statement (macro_invocation macro: (identifier) @_macro)) .)
  (#any-of? @_macro "todo" "unimplemented")) @stub
