; What is called: functions, constructors, decorators, tags of templates.
(call_expression function: (_) @call)
(new_expression constructor: (_) @call)
(decorator [(identifier) (member_expression)] @call)
