//! One call of HTTP, answered as Chaos Toolkit's provider does: status, headers, body.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::Unanswered;
use crate::model::HttpCall;

/// A longer answer is none that a tolerance is written for.
const BODY_MAX: usize = 1 << 20;
const REDIRECTS_MAX: usize = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

pub async fn call(call: &HttpCall) -> Result<Value, Unanswered> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_millis(call.connect_ms))
        .timeout(Duration::from_millis(call.timeout_ms))
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
        .tls_danger_accept_invalid_certs(!call.verify_tls)
        .build()
        .map_err(|error| Unanswered::Unasked(told(error)))?;
    let mut tries = 0;
    loop {
        match once(&client, call).await {
            Err(Failed::Call(error)) if error.is_connect() && tries < call.retries => {
                tries += 1;
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            Err(Failed::Call(error)) if error.is_builder() || error.is_redirect() => {
                return Err(Unanswered::Unasked(told(error)));
            }
            Err(Failed::Call(error)) => return Err(Unanswered::Silent(told(error))),
            Err(Failed::TooLong) => {
                return Err(Unanswered::Unasked(format!("the answer is longer than {BODY_MAX} bytes")));
            }
            Ok(answer) => return Ok(answer),
        }
    }
}

enum Failed {
    Call(reqwest::Error),
    TooLong,
}

impl From<reqwest::Error> for Failed {
    fn from(error: reqwest::Error) -> Self {
        Self::Call(error)
    }
}

async fn once(client: &reqwest::Client, call: &HttpCall) -> Result<Value, Failed> {
    // The file's reader has taken only names of letters.
    let method = reqwest::Method::from_bytes(call.method.as_bytes()).unwrap_or_default();
    let mut request = client.request(method, &call.url);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &call.body {
        request = request.body(body.clone());
    }
    let mut response = request.send().await?;
    let status = response.status().as_u16();
    let headers = headers(response.headers());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(Failed::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let is_json = headers.get("Content-Type").and_then(Value::as_str) == Some("application/json");
    let parsed = is_json.then(|| serde_json::from_str(&text).ok()).flatten();
    Ok(json!({ "status": status, "headers": headers, "body": parsed.unwrap_or(Value::String(text)) }))
}

/// Names as they are mostly written (`Content-Type`), for paths into them.
fn headers(map: &HeaderMap) -> Map<String, Value> {
    let mut headers = Map::new();
    for name in map.keys() {
        let words = name.as_str().split('-').map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_ascii_uppercase() + rest
        });
        let values =
            map.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let (name, value) = (words.collect::<Vec<_>>().join("-"), values.collect::<Vec<_>>().join(", "));
        headers.insert(name, Value::String(value));
    }
    headers
}

/// With its causes, and without the address: it may hold what nobody may read.
fn told(error: reqwest::Error) -> String {
    let timed_out = error.is_timeout();
    let text = crate::cluster::chain(&error.without_url());
    if timed_out { format!("no answer in time: {text}") } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn get(url: String) -> HttpCall {
        let (connect_ms, timeout_ms) = (500, 500);
        HttpCall {
            method: "GET".to_owned(),
            url,
            headers: Vec::new(),
            body: None,
            verify_tls: true,
            connect_ms,
            timeout_ms,
            retries: 0,
        }
    }

    /// Says the same to everybody, and gives what was asked.
    async fn server(says: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/path?a=b", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(says.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        (url, asked)
    }

    #[tokio::test]
    async fn an_answer_has_status_headers_and_body() {
        let json = "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nx-a-b: 1\r\ncontent-length: 8\r\n\r\n{\"a\": 1}";
        let (url, asked) = server(json).await;
        let post = HttpCall {
            method: "POST".to_owned(),
            headers: vec![("X-Token".to_owned(), "t".to_owned())],
            body: Some(b"k=v".to_vec()),
            ..get(url)
        };
        let answer = call(&post).await.unwrap();
        assert_eq!((&answer["status"], &answer["body"]), (&json!(201), &json!({ "a": 1 })));
        assert_eq!(answer["headers"]["X-A-B"], "1");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /path?a=b HTTP/1.1\r\n") && asked.ends_with("k=v"), "{asked}");
        assert!(asked.contains("x-token: t"), "{asked}");
        // Of another type a body is text.
        let (url, _) = server("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}").await;
        let answer = call(&get(url)).await.unwrap();
        assert_eq!((&answer["status"], &answer["body"]), (&json!(503), &json!("{}")));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_silent_and_its_address_is_not_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("http://{}/?token=hunter2", listener.local_addr().unwrap());
        let Err(Unanswered::Silent(why)) = call(&get(silent.clone())).await else { panic!("it answered") };
        assert!(why.starts_with("no answer in time") && !why.contains("hunter2"), "{why}");
        drop(listener);
        let refused = HttpCall { retries: 1, ..get(silent) };
        let Err(Unanswered::Silent(why)) = call(&refused).await else { panic!("it answered") };
        assert!(why.contains("refused") && !why.contains("hunter2"), "{why}");
    }
}
