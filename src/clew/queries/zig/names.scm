; Declared names by kind. A constant that holds a type declares a type; one that only repeats another name is exempt.
(function_declaration name: (identifier) @name.function)
(function_declaration name: (identifier) @exempt type: (builtin_type) @_type (#eq? @_type "type"))

(variable_declaration "const" . (identifier) @name.type . "="
  [(struct_declaration) (enum_declaration) (union_declaration) (opaque_declaration) (error_set_declaration)])
; By Zig's own style, what a function with such a name gives is a type.
(variable_declaration "const" . (identifier) @name.type . "="
  (call_expression function: [(identifier) (field_expression)] @_maker)
  (#match? @name.type "^_*[A-Z][A-Za-z0-9]*[a-z]") (#match? @_maker "(^|[.])[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*$"))
(variable_declaration ["const" "var"] . (identifier) @name.variable)
; A constant stands in a file or type; in a function `const` is a variable that is set once.
(source_file (variable_declaration "const" . (identifier) @name.constant))
(struct_declaration (variable_declaration "const" . (identifier) @name.constant))
(enum_declaration (variable_declaration "const" . (identifier) @name.constant))
(union_declaration (variable_declaration "const" . (identifier) @name.constant))
(opaque_declaration (variable_declaration "const" . (identifier) @name.constant))
(variable_declaration "const" . (identifier) @exempt . "=" [(builtin_function) (field_expression)])
(parameter name: (identifier) @name.variable)
(parameter name: (identifier) @exempt type: (builtin_type) @_type (#eq? @_type "type"))
(payload (identifier) @name.variable)
(container_field name: (identifier) @name.field)
