//! A browser as far as the pages of the server need one: cookies, redirects and forms.

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};

/// One browser.
pub struct Browser {
    http: reqwest::Client,
    origin: String,
    jar: Vec<(String, String)>,
}

/// What came back.
pub struct Page {
    /// What was asked for.
    pub url: String,
    /// Where it leads by itself.
    pub onward: Option<String>,
    /// The body.
    pub html: String,
}

impl Browser {
    /// One that has these cookies (`a=b; c=d`) of the server at `origin`.
    pub fn new(http: &reqwest::Client, origin: &str, cookies: &str) -> Self {
        let pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
        let jar = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { http: http.clone(), origin: origin.to_owned(), jar }
    }

    /// Its cookies.
    pub fn cookies(&self) -> String {
        let pairs: Vec<String> = self.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
        pairs.join("; ")
    }

    /// One request; a form is posted.
    pub async fn send(&mut self, url: &str, form: Option<&[(String, String)]>) -> Page {
        let request = match form {
            None => self.http.get(url),
            Some(fields) => self.http.post(url).form(fields).header("origin", &self.origin),
        };
        let answer = request
            .header("accept", "text/html")
            .header(COOKIE, self.cookies())
            .send()
            .await
            .expect("an answer");
        for line in answer.headers().get_all(SET_COOKIE) {
            let pair = line.to_str().expect("text").split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie");
            self.jar.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.jar.push((name.to_owned(), value.to_owned()));
            }
        }
        let header = |name: &str| {
            answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
        };
        let refresh =
            header("refresh").and_then(|r| r.split_once("url=").map(|(_, u)| u.to_owned()));
        let onward = header(LOCATION.as_str()).or(refresh).map(|onward| join(url, &onward));
        Page { url: url.to_owned(), onward, html: answer.text().await.expect("a page") }
    }

    /// The same, and on to where it leads, as long as that is this server.
    pub async fn follow(&mut self, url: &str, form: Option<&[(String, String)]>) -> Page {
        let mut page = self.send(url, form).await;
        for _ in 0..10 {
            match page.onward.clone() {
                Some(next) if next.starts_with(&self.origin) => page = self.send(&next, None).await,
                _ => return page,
            }
        }
        panic!("sent in circles: {}", page.url);
    }
}

impl Page {
    /// Where its first form goes, and what it sends with `values` filled in.
    pub fn filled(&self, values: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        let (action, mut fields) = form_of(&self.html);
        for (name, value) in values {
            fields.retain(|(known, _)| known != name);
            fields.push(((*name).to_owned(), (*value).to_owned()));
        }
        (join(&self.url, &action), fields)
    }
}

fn join(base: &str, reference: &str) -> String {
    let base = reqwest::Url::parse(base).expect("a URL");
    base.join(reference).expect("a URL").into()
}

fn form_of(html: &str) -> (String, Vec<(String, String)>) {
    let unescape =
        |text: &str| text.replace("&amp;", "&").replace("&#x2f;", "/").replace("&#x3d;", "=");
    let attribute = |tag: &str, name: &str| {
        tag.split_once(&format!(" {name}=\""))
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(value, _)| unescape(value))
    };
    let form = html.split_once("<form").map(|(_, rest)| rest);
    let form = form.unwrap_or_else(|| panic!("no form: {html}"));
    let form = form.split_once("</form>").map_or(form, |(form, _)| form);
    let action =
        attribute(&format!(" {}", form.split_once('>').map_or("", |(tag, _)| tag)), "action");
    let mut fields = Vec::new();
    for tag in form.split("<input").skip(1) {
        let tag = tag.split_once('>').map_or(tag, |(tag, _)| tag);
        if let Some(name) = attribute(tag, "name") {
            fields.push((name, attribute(tag, "value").unwrap_or_default()));
        }
    }
    (action.unwrap_or_default(), fields)
}
