; Every form of import. `@import.<form>` is a module that is spelled out, `@argument.<form>` an argument that may be
; computed; then nobody can tell what is imported.
(import_statement name: (dotted_name) @import.import)
(import_statement name: (aliased_import name: (dotted_name) @import.import))
(import_from_statement module_name: [(dotted_name) (relative_import)] @import.from)
(future_import_statement "__future__" @import.future)
(call function: (identifier) @_import arguments: (argument_list . (_) @argument.dunder_import)
  (#any-of? @_import "__import__" "import_module" "importorskip" "find_spec" "reload" "run_module" "run_path"))
(call function: (attribute attribute: (identifier) @_import) arguments: (argument_list . (_) @argument.import_module)
  (#any-of? @_import "__import__" "import_module" "importorskip" "find_spec" "find_module" "load_module" "load_source"
    "run_module" "run_path" "spec_from_file_location" "exec_module" "import_string" "resolve_name"))
(subscript value: (attribute object: (identifier) @_sys attribute: (identifier) @_modules) subscript: (_) @argument.sys_modules
  (#eq? @_sys "sys") (#eq? @_modules "modules"))
; Text that runs as code may import anything, and so may what imports under another name.
(call function: (identifier) @argument.eval (#any-of? @argument.eval "eval" "exec" "compile"))
(call function: (attribute object: (identifier) @_builtins attribute: (identifier) @argument.eval)
  (#any-of? @_builtins "builtins" "__builtins__") (#any-of? @argument.eval "eval" "exec" "compile" "__import__"))
(assignment right: [(identifier) (attribute)] @argument.alias
  (#match? @argument.alias "(^|\\.)(__import__|import_module)$|^(eval|exec|compile|__builtins__|__loader__)$"))
(aliased_import name: (dotted_name) @argument.alias alias: (_)
  (#any-of? @argument.alias "import_module" "__import__" "eval" "exec"))
(argument_list [(identifier) (attribute)] @argument.alias
  (#match? @argument.alias "(^|\\.)(__import__|import_module)$|^(__builtins__|__loader__)$"))
(attribute object: (identifier) @argument.alias
  (#any-of? @argument.alias "__builtins__" "__loader__" "__spec__"))
(subscript value: (identifier) @argument.alias (#any-of? @argument.alias "__builtins__"))
(call function: (identifier) @_getattr arguments: (argument_list (string (string_content) @argument.alias))
  (#eq? @_getattr "getattr") (#any-of? @argument.alias "__import__" "import_module" "eval" "exec"))
(exec_statement) @argument.eval
