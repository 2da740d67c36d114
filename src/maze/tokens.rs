//! Text to ids and back, for clients that count or show tokens.

use super::{Error, Maze, Message, beside};

/// Why a remote model has no ids to give.
const NO_TOKENS: &str = "the tokens of a remote model are not known here";

impl Maze {
    /// The ids of a text in which control tokens are ordinary characters; with `add_bos` those of a prompt, which begin
    /// as the model wants its texts to.
    ///
    /// # Errors
    /// [`Error::PromptTooLarge`], or the tokenizer fails on the text.
    pub async fn encode(&self, text: String, add_bos: bool) -> Result<Vec<u32>, Error> {
        self.expect_local("prompt", NO_TOKENS)?;
        self.check_prompt_bytes(text.len())?;
        let maze = self.clone();
        beside(move || Ok(maze.inner.tokenizer.encode(&text, add_bos)?)).await
    }

    /// The ids of a chat by the model's template; with `add_generation_prompt` up to where the answer begins.
    ///
    /// # Errors
    /// [`Error::PromptTooLarge`], or the model has no template, or it fails on the messages.
    pub async fn encode_chat(&self, messages: Vec<Message>, add_generation_prompt: bool) -> Result<Vec<u32>, Error> {
        self.expect_local("messages", NO_TOKENS)?;
        self.check_prompt_bytes(messages.iter().map(|message| message.content.len()).sum())?;
        let maze = self.clone();
        beside(move || Ok(maze.inner.tokenizer.encode_chat(&messages, add_generation_prompt)?)).await
    }

    /// The bytes that ids stand for one after another, control tokens by their names.
    ///
    /// # Errors
    /// [`Error::PromptToken`] for an id that is none, [`Error::PromptTooLarge`] for what is longer than a prompt may be.
    pub async fn decode(&self, ids: Vec<u32>) -> Result<Vec<u8>, Error> {
        self.expect_local("tokens", NO_TOKENS)?;
        let vocabulary = self.inner.tokenizer.vocabulary();
        if let Some(position) = ids.iter().position(|&id| id as usize >= vocabulary.num_tokens()) {
            return Err(Error::PromptToken { position, id: ids[position] });
        }
        self.check_prompt_bytes(ids.iter().map(|&id| self.shown_bytes(id).len()).sum())?;
        let maze = self.clone();
        beside(move || Ok(ids.iter().flat_map(|&id| maze.shown_bytes(id)).copied().collect())).await
    }

    /// What an id is as text: a control token's name, else its bytes; what is no whole character reads U+FFFD.
    #[must_use]
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.shown_bytes(id)).into_owned()
    }

    /// The bytes that an id stands for; none for a control token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        let vocabulary = self.inner.tokenizer.vocabulary();
        if vocabulary.is_control(id) { &[] } else { vocabulary.bytes(id) }
    }

    /// A control token's name, else the bytes it stands for.
    fn shown_bytes(&self, id: u32) -> &[u8] {
        let vocabulary = self.inner.tokenizer.vocabulary();
        vocabulary.control_name(id).map_or_else(|| vocabulary.bytes(id), str::as_bytes)
    }

    pub(super) fn check_prompt_bytes(&self, size: usize) -> Result<(), Error> {
        let limit = self.inner.config.prompt_bytes_max;
        if size > limit { Err(Error::PromptTooLarge { size, limit }) } else { Ok(()) }
    }
}
