//! Chat templates: messages to the text a model was trained on.
//!
//! Templates are Jinja as Hugging Face runs it: blocks trimmed, Python's string methods, `raise_exception`, loop
//! controls. They come with the model and are bounded in steps; what they are given is data, never template source.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::TextError;

/// How many template instructions one rendering may take; a message costs about fifty.
const FUEL: u64 = 1_000_000;
/// The name that error messages give the template.
const NAME: &str = "chat_template";

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    fn to_value(&self) -> Value {
        Value::from_pairs([("role", self.role.as_str()), ("content", self.content.as_str())])
    }
}

/// A model's chat template, compiled.
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// If it is not valid Jinja.
    pub fn new(source: &str) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        environment.set_syntax(syntax());
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.to_string()).map_err(template_error)?;
        Ok(Self { environment })
    }

    /// The text of `messages`, with the beginning of a reply if `add_generation_prompt`.
    ///
    /// `bos` and `eos` are the texts of the model's tokens. The result is for
    /// [`encode_with_control`](super::Tokenizer::encode_with_control); messages of users go through
    /// [`encode_chat`](super::Tokenizer::encode_chat), which keeps control tokens in them from taking effect.
    ///
    /// # Errors
    /// If the template refuses the messages, fails on them, or takes too many steps.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String, TextError> {
        let template = self.environment.get_template(NAME).map_err(template_error)?;
        let input = context! {
            messages => Value::from_iter(messages.iter().map(Message::to_value)),
            add_generation_prompt,
            bos_token => bos,
            eos_token => eos,
        };
        template.render(input).map_err(template_error)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChatTemplate")
    }
}

/// Jinja's usual delimiters, with whitespace around blocks trimmed as transformers does.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("the usual delimiters are valid")
}

/// The template's own refusal, told from other failures by its type.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
}

fn template_error(error: Error) -> TextError {
    if let Some(Refusal(message)) = std::error::Error::source(&error).and_then(|source| source.downcast_ref()) {
        return TextError::TemplateRefused { message: message.clone() };
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TextError::TemplateFuel { limit: FUEL },
        ErrorKind::UnknownFunction => TextError::TemplateFunction { detail: error.to_string() },
        _ => TextError::Template(Box::new(error)),
    }
}

/// `tojson` as transformers has it: Python's separators, nothing escaped for HTML, `indent` if given.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            value.serialize(&mut Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(indent.as_bytes())))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, PythonFormatter)),
    };
    let bad = |error: String| Error::new(ErrorKind::BadSerialization, error);
    written.map_err(|error| bad(error.to_string()))?;
    Ok(Value::from_safe_string(String::from_utf8(out).map_err(|error| bad(error.to_string()))?))
}

/// One line with `, ` and `: ` between, as Python's `json.dumps` writes.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}\
        {% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    const DEEPSEEK: &str = "{% if not add_generation_prompt is defined %}\n{% set add_generation_prompt = false %}\n\
        {% endif %}\n{%- set ns = namespace(found=false) -%}\n{%- for message in messages -%}\n    \
        {%- if message['role'] == 'system' -%}\n        {%- set ns.found = true -%}\n    {%- endif -%}\n{%- endfor -%}\n\
        {{bos_token}}{%- if not ns.found -%}\n{{'You are an AI programming assistant.\\n'}}\n{%- endif %}\n\
        {%- for message in messages %}\n    {%- if message['role'] == 'system' %}\n{{ message['content'] }}\n    \
        {%- else %}\n        {%- if message['role'] == 'user' %}\n\
        {{'### Instruction:\\n' + message['content'] + '\\n'}}\n        {%- else %}\n\
        {{'### Response:\\n' + message['content'] + '\\n<|EOT|>\\n'}}\n        {%- endif %}\n    {%- endif %}\n\
        {%- endfor %}\n{% if add_generation_prompt %}\n{{'### Response:'}}\n{% endif %}";

    fn render(source: &str, messages: &[(&str, &str)]) -> Result<String, TextError> {
        let messages: Vec<Message> = messages.iter().map(|(role, content)| Message::new(*role, *content)).collect();
        ChatTemplate::new(source)?.render(&messages, true, "<bos>", "<eos>")
    }

    #[test]
    fn chatml_is_rendered() -> Result<(), TextError> {
        let system =
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";
        let turn = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(render(CHATML, &[("user", "Hi")])?, format!("{system}{turn}"));
        let own = render(CHATML, &[("system", "Be brief."), ("user", "Hi")])?;
        assert_eq!(own, format!("<|im_start|>system\nBe brief.<|im_end|>\n{turn}"));
        Ok(())
    }

    #[test]
    fn deepseek_coders_template_is_rendered() -> Result<(), TextError> {
        let text = render(DEEPSEEK, &[("user", "Add."), ("assistant", "a+b"), ("user", "Thanks")])?;
        let turns = "### Instruction:\nAdd.\n### Response:\na+b\n<|EOT|>\n### Instruction:\nThanks\n### Response:\n";
        assert_eq!(text, format!("<bos>You are an AI programming assistant.\n{turns}"));
        Ok(())
    }

    #[test]
    fn python_methods_and_json_are_as_in_transformers() -> Result<(), TextError> {
        let source = "{{ messages[0].content.strip().split('|')[-1] }} {{ {'a': [1, '<é>']} | tojson }}";
        assert_eq!(render(source, &[("user", "  x|y ")])?, "y {\"a\": [1, \"<é>\"]}");
        Ok(())
    }

    #[test]
    fn every_failure_has_its_name() {
        let fail = |source| render(source, &[("user", "Hi")]).expect_err("a template that fails");
        let refused = fail("{{ raise_exception('roles must alternate') }}");
        assert!(matches!(refused, TextError::TemplateRefused { message } if message == "roles must alternate"));
        let date = fail("{{ strftime_now('%Y') }}");
        assert!(matches!(date, TextError::TemplateFunction { detail } if detail.contains("strftime_now")));
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(matches!(fail(endless), TextError::TemplateFuel { .. }));
        assert!(matches!(fail("{% for %}"), TextError::Template(_)));
    }

    #[test]
    fn a_template_may_ask_whether_the_date_is_known() -> Result<(), TextError> {
        let source = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}no date{% endif %}";
        assert_eq!(render(source, &[])?, "no date");
        Ok(())
    }
}
