; Every form of import. Go has one statement; plugins are loaded by a path that is computed.
(import_spec path: (_) @import.import)
(call_expression function: (selector_expression operand: (identifier) @_plugin field: (field_identifier) @_open)
  arguments: (argument_list . (_) @argument.plugin)
  (#eq? @_plugin "plugin") (#any-of? @_open "Open"))
