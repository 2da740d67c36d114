; `@category.pattern`: each is counted. Every one has an example and a near miss in testdata/patterns/go.txt.

(function_declaration) @functions.function_declaration
(method_declaration) @functions.method
(method_declaration receiver: (parameter_list (parameter_declaration type: (pointer_type)))) @functions.pointer_receiver
(method_declaration receiver: (parameter_list (parameter_declaration type: (type_identifier)))) @functions.value_receiver
(variadic_parameter_declaration) @functions.variadic_parameters
(func_literal) @functions.function_literal
(function_declaration result: (parameter_list (parameter_declaration name: (identifier)))) @functions.named_results
(function_declaration result: (parameter_list (parameter_declaration) (parameter_declaration))) @functions.multiple_results
(function_declaration type_parameters: (type_parameter_list)) @functions.generic_function
(function_declaration name: (identifier) @_init (#eq? @_init "init")) @functions.init_function
(function_declaration name: (identifier) @_new (#match? @_new "^New([A-Z]|$)")) @functions.constructor

(slice_type) @types.slice_type
(map_type) @types.map_type
(pointer_type) @types.pointer_type
(array_type) @types.array_type
(function_type) @types.function_type
(generic_type) @types.generic_type
(type_alias) @types.type_alias
(interface_type . "interface" . "{" . "}") @types.empty_interface
((type_identifier) @types.any_type (#eq? @types.any_type "any"))
(type_elem (_) (_)) @types.type_union
(negated_type) @types.approximate_constraint
(type_assertion_expression) @types.type_assertion
(type_switch_statement) @types.type_switch
(type_spec type: (type_identifier)) @types.defined_type

(go_statement) @async.goroutine
(channel_type) @async.channel_type
(send_statement) @async.send
(unary_expression operator: "<-") @async.receive
(select_statement) @async.select
(qualified_type package: (package_identifier) @_sync name: (type_identifier) @_wait
  (#eq? @_sync "sync") (#eq? @_wait "WaitGroup")) @async.wait_group
(parameter_declaration type: (qualified_type package: (package_identifier) @_context name: (type_identifier) @_name)
  (#eq? @_context "context") (#eq? @_name "Context")) @async.context_parameter
(call_expression function: (identifier) @_close (#eq? @_close "close")) @async.close_channel
(call_expression function: (identifier) @_make arguments: (argument_list . (channel_type) . (_))
  (#eq? @_make "make")) @async.buffered_channel

(function_declaration result: (type_identifier) @_error (#eq? @_error "error")) @errors.error_result
(function_declaration result: (parameter_list (parameter_declaration type: (type_identifier) @_error) .)
  (#eq? @_error "error")) @errors.value_and_error_result
(if_statement condition: (binary_expression left: (identifier) operator: "!=" right: (nil))) @errors.error_check
(if_statement initializer: (_) condition: (binary_expression operator: "!=" right: (nil))) @errors.scoped_error_check
(call_expression function: (selector_expression field: (field_identifier) @_errorf)
  arguments: (argument_list . (interpreted_string_literal) @_format) (#eq? @_errorf "Errorf") (#match? @_format "%w")) @errors.wrapped_error
(call_expression function: (selector_expression operand: (identifier) @_errors field: (field_identifier) @_is)
  (#eq? @_errors "errors") (#any-of? @_is "Is" "As")) @errors.error_matching
(var_spec name: (identifier) @_sentinel (#match? @_sentinel "^(Err|err)[A-Z]")) @errors.sentinel_error
(method_declaration name: (field_identifier) @_error (#eq? @_error "Error")) @errors.error_type
(call_expression function: (identifier) @_panic (#eq? @_panic "panic")) @errors.panic
(call_expression function: (identifier) @_recover (#eq? @_recover "recover")) @errors.recover
(call_expression function: (selector_expression operand: (identifier) @_log field: (field_identifier) @_fatal)
  (#eq? @_log "log") (#match? @_fatal "^Fatal")) @errors.fatal_log

(import_declaration (import_spec)) @imports.single_import
(import_declaration (import_spec_list)) @imports.grouped_import
(import_spec name: (package_identifier)) @imports.aliased_import
(import_spec name: (blank_identifier)) @imports.blank_import
(import_spec name: (dot)) @imports.dot_import
(import_spec path: (interpreted_string_literal) @_c (#eq? @_c "\"C\"")) @imports.cgo

(type_spec type: (struct_type)) @classes.struct
(field_declaration !name) @classes.embedded_field
(type_spec type: (interface_type)) @classes.interface
(method_elem) @classes.interface_method
(const_spec value: (expression_list (iota))) @classes.iota_enum
(type_spec type_parameters: (type_parameter_list)) @classes.generic_type_declaration
(method_declaration name: (field_identifier) @_string (#eq? @_string "String")) @classes.stringer
(composite_literal type: (type_identifier)) @classes.struct_literal

(field_declaration tag: (_)) @metadata.struct_tag
((comment) @metadata.compiler_directive (#match? @metadata.compiler_directive "^//go:"))
((comment) @metadata.build_constraint (#match? @metadata.build_constraint "^//go:build |^// \\+build "))
((comment) @metadata.suppressed_check (#match? @metadata.suppressed_check "nolint"))
((comment) @metadata.deprecated (#match? @metadata.deprecated "^// Deprecated:"))

(defer_statement) @memory.defer
(defer_statement (call_expression function: (selector_expression field: (field_identifier) @_unlock)
  (#any-of? @_unlock "Unlock" "RUnlock"))) @memory.deferred_unlock
(defer_statement (call_expression function: (selector_expression field: (field_identifier) @_close)
  (#eq? @_close "Close"))) @memory.deferred_close
(call_expression function: (identifier) @_make (#eq? @_make "make")) @memory.make
(call_expression function: (identifier) @_new (#eq? @_new "new")) @memory.new
(call_expression function: (identifier) @_append (#eq? @_append "append")) @memory.append
(unary_expression operator: "&" operand: (composite_literal)) @memory.pointer_literal
(qualified_type package: (package_identifier) @_sync name: (type_identifier) @_mutex
  (#eq? @_sync "sync") (#any-of? @_mutex "Mutex" "RWMutex")) @memory.mutex
(qualified_type package: (package_identifier) @_sync name: (type_identifier) @_pool
  (#eq? @_sync "sync") (#eq? @_pool "Pool")) @memory.pool
(selector_expression operand: (identifier) @_unsafe (#eq? @_unsafe "unsafe")) @memory.unsafe
