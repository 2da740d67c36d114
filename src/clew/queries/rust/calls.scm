; What is called: functions, methods, macros. Inside of a macro's arguments there are only tokens.
(call_expression function: (_) @call)
(macro_invocation macro: (_) @call)
(macro_invocation (token_tree) @tokens)
(macro_rule right: (token_tree) @tokens)
(attribute arguments: (token_tree) @tokens)
