; What is called.
(call_expression function: (_) @call)
