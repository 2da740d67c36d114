; What is called: functions, classes, decorators.
(call function: (_) @call)
(decorator [(identifier) (attribute)] @call)
