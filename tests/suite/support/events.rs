//! What a browser's `EventSource` does, as far as the feed needs it.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open stream.
#[derive(Debug)]
pub struct Events {
    response: Response,
    text: String,
}

/// An event, or a comment (then `name` is empty and `data` its text).
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its type.
    pub name: String,
    /// Where a reader is that has it.
    pub id: Option<String>,
    /// What it says.
    pub data: Value,
}

impl Events {
    /// Opens a stream, which must succeed.
    pub async fn open(request: RequestBuilder) -> Self {
        Self::try_open(request).await.expect("a stream")
    }

    /// Opens a stream; else the status of the refusal, or none when no answer came.
    pub async fn try_open(request: RequestBuilder) -> Result<Self, Option<u16>> {
        let request = request.header("accept", "text/event-stream");
        let response = request.send().await.map_err(|_| None)?;
        if response.status() != 200 {
            return Err(Some(response.status().as_u16()));
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Self { response, text: String::new() })
    }

    /// The next event or comment; none when the stream has ended.
    pub async fn any(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event = read(&self.text[..end]);
                self.text.drain(..end + 2);
                return Some(event);
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("something in time");
            match chunk {
                Ok(Some(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next event.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.any().await {
                Some(event) if event.name.is_empty() => {}
                other => return other,
            }
        }
    }

    /// The next event, which must be of this name.
    pub async fn named(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("an event");
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// Whether it ends, whatever is said before.
    pub async fn ends(mut self) {
        while self.any().await.is_some() {}
    }
}

fn read(block: &str) -> Event {
    let mut event = Event { name: String::new(), id: None, data: Value::Null };
    for line in block.lines() {
        let (field, value) = line.split_once(": ").unwrap_or((line, ""));
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => event.id = Some(value.to_owned()),
            "data" => event.data = serde_json::from_str(value).expect("JSON in one line"),
            "" => event.data = value.into(),
            _ => {}
        }
    }
    event
}
