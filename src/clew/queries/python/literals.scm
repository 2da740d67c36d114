; Text literals, and names that are given a value.
(string) @literal
(assignment left: [(identifier) (attribute) (pattern_list) (tuple_pattern)] @value.name right: (_) @value)
(augmented_assignment left: [(identifier) (attribute)] @value.name right: (_) @value)
(named_expression name: (identifier) @value.name value: (_) @value)
(keyword_argument name: (identifier) @value.name value: (_) @value)
(default_parameter name: (identifier) @value.name value: (_) @value)
(typed_default_parameter name: (identifier) @value.name value: (_) @value)
(pair key: (string) @value.name value: (_) @value)
