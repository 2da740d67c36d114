; Every form of import. `@import.<form>` is a module that is spelled out, `@argument.<form>` an argument that may be
; computed; then nobody can tell what is imported.
(import_statement source: (string) @import.static)
(import_statement (import_require_clause source: (string) @import.import_require))
(export_statement source: (string) @import.re_export)
(call_expression function: (import) arguments: (arguments . (_) @argument.dynamic))
(call_expression function: (identifier) @_require arguments: (arguments . (_) @argument.require)
  (#any-of? @_require "require" "importScripts"))
(call_expression function: (member_expression property: (property_identifier) @_require)
  arguments: (arguments . (_) @argument.require)
  (#any-of? @_require "require" "requireActual" "requireMock" "importActual" "importMock"))
(call_expression
  function: (member_expression object: (identifier) @_require property: (property_identifier) @_resolve)
  arguments: (arguments . (_) @argument.require_resolve)
  (#eq? @_require "require") (#eq? @_resolve "resolve"))
(call_expression
  function: (member_expression object: [(meta_property) (member_expression)] @_meta property: (property_identifier) @_resolve)
  arguments: (arguments . (_) @argument.import_meta_resolve)
  (#eq? @_meta "import.meta") (#eq? @_resolve "resolve"))
(call_expression function: (member_expression property: (property_identifier) @_get)
  arguments: (arguments . (_) @argument.get_builtin_module)
  (#any-of? @_get "getBuiltinModule" "binding" "_load" "dlopen"))
(call_expression
  function: (member_expression object: (identifier) @_jest property: (property_identifier) @_mock)
  arguments: (arguments . (_) @argument.mock)
  (#any-of? @_jest "jest" "vi") (#any-of? @_mock "mock" "doMock" "unmock" "createMockFromModule"))
(new_expression constructor: (identifier) @_worker arguments: (arguments . (string) @import.worker)
  (#any-of? @_worker "Worker" "SharedWorker"))
; Text that runs as code may import anything, and so may a loader or `require` under another name.
(call_expression function: (identifier) @argument.eval (#eq? @argument.eval "eval"))
(new_expression constructor: (identifier) @argument.eval (#eq? @argument.eval "Function"))
(call_expression function: (identifier) @argument.eval (#eq? @argument.eval "Function"))
(call_expression function: [(identifier) (member_expression)] @argument.create_require
  (#match? @argument.create_require "(^|\\.)createRequire$"))
(variable_declarator value: (identifier) @argument.alias (#any-of? @argument.alias "require" "eval" "Function"))
(assignment_expression right: (identifier) @argument.alias (#any-of? @argument.alias "require" "eval" "Function"))
(arguments (identifier) @argument.alias (#any-of? @argument.alias "require" "eval" "Function"))
(import_specifier name: (identifier) @argument.create_require (#eq? @argument.create_require "createRequire"))
