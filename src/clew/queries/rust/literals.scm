; Text literals, and names that are given a value.
(string_literal) @literal
(raw_string_literal) @literal
(let_declaration pattern: [(identifier) (tuple_pattern)] @value.name value: (_) @value)
(const_item name: (identifier) @value.name value: (_) @value)
(static_item name: (identifier) @value.name value: (_) @value)
(assignment_expression left: [(identifier) (field_expression)] @value.name right: (_) @value)
(compound_assignment_expr left: [(identifier) (field_expression)] @value.name right: (_) @value)
(field_initializer field: (field_identifier) @value.name value: (_) @value)
(let_condition pattern: (identifier) @value.name value: (_) @value)
