; Text literals, and names that are given a value. An assignment is a declaration without a keyword in this grammar.
(string) @literal
(multiline_string) @literal
(variable_declaration ["const" "var"] . (identifier) @value.name . (_)? . "=" . (_) @value)
(variable_declaration . [(identifier) (field_expression)] @value.name . "=" . (_) @value)
(assignment_expression left: [(identifier) (field_expression)] @value.name right: (_) @value)
(container_field name: (identifier) @value.name "=" . (_) @value)
