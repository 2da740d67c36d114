; Text literals, and names that are given a value.
(string) @literal
(template_string) @literal
(variable_declarator name: (identifier) @value.name value: (_) @value)
(assignment_expression left: [(identifier) (member_expression)] @value.name right: (_) @value)
(augmented_assignment_expression left: [(identifier) (member_expression)] @value.name right: (_) @value)
(pair key: [(property_identifier) (string)] @value.name value: (_) @value)
(public_field_definition name: [(property_identifier) (private_property_identifier) (string)] @value.name value: (_) @value)
(required_parameter pattern: (identifier) @value.name value: (_) @value)
(optional_parameter pattern: (identifier) @value.name value: (_) @value)
(assignment_pattern left: (identifier) @value.name right: (_) @value)
(object_assignment_pattern left: (shorthand_property_identifier_pattern) @value.name right: (_) @value)
(enum_assignment name: [(property_identifier) (string)] @value.name value: (_) @value)
