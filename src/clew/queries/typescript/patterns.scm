; `@category.pattern`: each is counted. Every one has an example and a near miss in testdata/patterns/typescript.txt.

(function_declaration) @functions.function_declaration
(function_declaration "async") @functions.async_function
(arrow_function) @functions.arrow_function
(arrow_function "async") @functions.async_arrow_function
(generator_function_declaration) @functions.generator_function
(method_definition name: [(property_identifier) (private_property_identifier)]) @functions.method
(method_definition "get") @functions.getter
(method_definition "set") @functions.setter
(required_parameter value: (_)) @functions.default_parameter
(required_parameter pattern: (rest_pattern)) @functions.rest_parameter
(required_parameter pattern: (object_pattern)) @functions.destructured_parameter
(function_signature) @functions.overload_signature

(type_annotation (predefined_type) @types.primitive_annotation
  (#any-of? @types.primitive_annotation "string" "number" "boolean" "symbol" "object"))
((predefined_type) @types.any_type (#eq? @types.any_type "any"))
((predefined_type) @types.unknown_type (#eq? @types.unknown_type "unknown"))
(generic_type) @types.generic_type
(union_type) @types.union_type
(union_type (literal_type [(null) (undefined)])) @types.nullable_type
(intersection_type) @types.intersection_type
(property_signature "?") @types.optional_property
(property_signature "readonly") @types.readonly_property
(array_type) @types.array_type
(tuple_type) @types.tuple_type
(literal_type (string)) @types.literal_type
(type_alias_declaration) @types.type_alias
(type_parameter constraint: (constraint)) @types.bounded_type_parameter
(mapped_type_clause) @types.mapped_type
(conditional_type) @types.conditional_type
(index_type_query) @types.keyof_type
(type_predicate_annotation) @types.type_guard
(satisfies_expression) @types.satisfies
(as_expression "const") @types.as_const
(as_expression (_) . "as" . [(type_identifier) (generic_type) (predefined_type) (object_type) (array_type) (union_type)]) @types.type_assertion
(non_null_expression) @types.non_null_assertion

(await_expression) @async.await
(for_in_statement "await") @async.async_iteration
(call_expression function: (member_expression object: (identifier) @_promise property: (property_identifier) @_all)
  (#eq? @_promise "Promise") (#any-of? @_all "all" "allSettled" "race" "any")) @async.promise_combinator
(call_expression function: (member_expression property: (property_identifier) @_then)
  (#eq? @_then "then")) @async.promise_chain
(new_expression constructor: (identifier) @_promise (#eq? @_promise "Promise")) @async.promise_constructor
(type_annotation (generic_type name: (type_identifier) @_promise) (#eq? @_promise "Promise")) @async.promise_type
(yield_expression) @async.yield

(try_statement) @errors.try_catch
(finally_clause) @errors.finally
(catch_clause !parameter) @errors.catch_without_binding
(throw_statement) @errors.throw
(class_declaration (class_heritage (extends_clause value: (identifier) @_error))
  (#match? @_error "(Error|Exception)$")) @errors.error_class
(call_expression function: (member_expression property: (property_identifier) @_catch)
  (#eq? @_catch "catch")) @errors.promise_catch
(binary_expression "instanceof" right: (identifier) @_error (#match? @_error "(Error|Exception)$")) @errors.error_check
(type_annotation (generic_type name: (type_identifier) @_result)
  (#any-of? @_result "Result" "Either" "ResultAsync")) @errors.result_type

(import_statement (import_clause (named_imports))) @imports.named_import
(import_statement (import_clause (identifier))) @imports.default_import
(import_statement (import_clause (namespace_import))) @imports.namespace_import
(import_statement "import" . source: (string)) @imports.side_effect_import
(import_statement "type") @imports.type_import
(call_expression function: (import)) @imports.dynamic_import
(call_expression function: (identifier) @_require (#eq? @_require "require")) @imports.require
(export_statement source: (string)) @imports.re_export
(export_statement "default") @imports.default_export
(export_statement declaration: (_)) @imports.exported_declaration
(export_statement (export_clause) !source) @imports.export_list

(class_declaration) @classes.class
(class_heritage (extends_clause)) @classes.inheritance
(class_heritage (implements_clause)) @classes.implements
(interface_declaration) @classes.interface
(extends_type_clause) @classes.interface_inheritance
(abstract_class_declaration) @classes.abstract_class
(enum_declaration) @classes.enum
(public_field_definition name: (private_property_identifier)) @classes.private_name
(accessibility_modifier) @classes.accessibility_modifier
(method_definition "static") @classes.static_method
(public_field_definition "readonly") @classes.readonly_field
(required_parameter (accessibility_modifier)) @classes.parameter_property
(internal_module) @classes.namespace

(decorator) @metadata.decorator
(decorator (call_expression)) @metadata.decorator_with_arguments
((comment) @metadata.doc_comment (#match? @metadata.doc_comment "^/\\*\\*"))
((comment) @metadata.suppressed_check (#match? @metadata.suppressed_check "@ts-(ignore|expect-error|nocheck)|eslint-disable|biome-ignore"))
(ambient_declaration) @metadata.ambient_declaration
(expression_statement (string) @_directive (#match? @_directive "^.use \\w+.$")) @metadata.directive
(debugger_statement) @metadata.debugger_statement

(new_expression constructor: (identifier) @_weak
  (#any-of? @_weak "WeakMap" "WeakRef" "WeakSet" "FinalizationRegistry")) @memory.weak_reference
(new_expression constructor: (identifier) @_bytes
  (#match? @_bytes "^(Shared)?ArrayBuffer$|^(Ui|I)nt(8|16|32)(Clamped)?Array$|^Float(32|64)Array$|^DataView$")) @memory.typed_array
(new_expression constructor: (identifier) @_abort (#eq? @_abort "AbortController")) @memory.abort_controller
(call_expression function: (member_expression object: (identifier) @_object property: (property_identifier) @_freeze)
  (#eq? @_object "Object") (#any-of? @_freeze "freeze" "seal")) @memory.frozen_object
(call_expression function: (member_expression property: (property_identifier) @_remove)
  (#any-of? @_remove "removeEventListener" "unsubscribe" "disconnect" "dispose")) @memory.released_subscription
(call_expression function: (identifier) @_clear
  (#any-of? @_clear "clearTimeout" "clearInterval" "cancelAnimationFrame")) @memory.cleared_timer
(call_expression function: (identifier) @_clone (#eq? @_clone "structuredClone")) @memory.structured_clone
(spread_element) @memory.shallow_copy
(unary_expression "delete") @memory.delete
