; What is called, and the functions that are built in.
(call_expression function: (_) @call)
(builtin_function (builtin_identifier) @call)
