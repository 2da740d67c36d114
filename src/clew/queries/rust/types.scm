; Everything at the top of a file or of an inner module, in order: attributes stand before what they speak of.
(source_file (_) @item)
(declaration_list (_) @item)
