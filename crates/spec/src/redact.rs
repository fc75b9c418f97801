//! Texts for consoles and records: what a URL may hold in secret is left out, and what a terminal would obey.

/// The text with every URL in it cut down to what may be seen: no user and password, no query, no fragment. `?…` stands where a query
/// was. For whole lines: secrets reach messages by ways that nobody thinks of, so everything printed and kept goes through here.
///
/// ```
/// assert_eq!(tatara_spec::redact::urls("GET (https://me:pw@h/x?token=1): 404"), "GET (https://h/x?… 404");
/// ```
#[must_use]
pub fn urls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        if !before.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            rest = after;
            continue;
        }
        // A query may hold any punctuation, so only what no URL holds ends it.
        let (url, tail) = after.split_at(after.find(ends_url).unwrap_or(after.len()));
        let (place, hidden) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
        shown.push_str(without_user(place));
        match hidden.chars().next() {
            Some(mark) if hidden.len() > 1 => shown.extend([mark, '…']),
            _ => shown.push_str(hidden),
        }
        rest = tail;
    }
    shown.push_str(rest);
    shown
}

/// The same for several, e.g. kernel arguments.
#[must_use]
pub fn all(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| urls(text)).collect()
}

/// A URL, or what was meant to be one, without its user information (RFC 3986, section 3.2.1), query and fragment: each of them may
/// be a credential, as in signed URLs of object stores.
///
/// For a URL by itself, made for wrong texts too: whatever comes before an `@` is dropped, also where a URL parser would see a path.
#[must_use]
pub fn url(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => (scheme, rest),
        _ => ("", text),
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (place, query) = rest.split_at(end);
    // An `@` behind the question mark may belong to a password that holds one.
    let hidden = place.rsplit_once('@').map(|(_, after)| after);
    let place = if query.contains('@') { "…" } else { hidden.unwrap_or(place) };
    let separator = if scheme.is_empty() { "" } else { "://" };
    let mark = if query.is_empty() { "" } else { "?…" };
    format!("{scheme}{separator}{place}{mark}")
}

/// The text with every control character replaced by a question mark: one line, which no terminal takes for a command.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn ends_url(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '`' | '"')
}

/// A password may hold an unescaped slash: then what looks like a port is none.
fn without_user(place: &str) -> &str {
    let authority = place.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) || authority.ends_with(']');
    let within = if is_port { authority } else { place };
    within.rfind('@').map_or(place, |at| &place[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::{printable, url, urls};
    use proptest::prelude::{any, prop_assert, proptest};

    #[test]
    fn control_characters_are_shown_as_question_marks() {
        assert_eq!(printable("a\tb\r\nc\u{9b}d"), "a?b??c?d");
    }

    #[test]
    fn what_may_be_seen_stays() {
        for text in [
            "",
            "no URL at all: a/b?c=d#e @f",
            "`https://h:8443/nodes/${mac}.yaml` is fine",
            "kernel argument `tatara.config=http://[2001:db8::1]:80/x@y`: wrong",
            "://",
            "at https://h/x?",
        ] {
            assert_eq!(urls(text), text);
        }
    }

    #[test]
    fn what_may_not_be_seen_is_cut() {
        for (text, shown) in [
            ("(https://u:p@h/x?t=1#f): 404", "(https://h/x?… 404"),
            ("`https://u@h/x?t=(1)` and http://h2/?a b", "`https://h/x?…` and http://h2/?… b"),
            (
                "tatara.config=https://h/${mac}?k=v tatara.ca=1",
                "tatara.config=https://h/${mac}?… tatara.ca=1",
            ),
            ("https://u:p/w@h/x", "https://h/x"),
            ("https://u:p@[::1]:8443/x#frag", "https://[::1]:8443/x#…"),
            ("ftp://u:p@h", "ftp://h"),
        ] {
            assert_eq!(urls(text), shown);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for (text, wanted) in [
            (
                "https://boot.example/nodes/52:54:00:00:00:01.yaml",
                "https://boot.example/nodes/52:54:00:00:00:01.yaml",
            ),
            ("https://user:hunter2@boot.example:8443/c", "https://boot.example:8443/c"),
            ("https://hunter2@boot.example/c", "https://boot.example/c"),
            ("https://boot.example/c?sig=hunter2", "https://boot.example/c?…"),
            ("https://boot.example/c#hunter2", "https://boot.example/c?…"),
            ("https://user:hunter2/x@boot.example/c", "https://boot.example/c"),
            ("https://user:?hunter2@boot.example/c", "https://…?…"),
            ("user:hunter2@boot.example", "boot.example"),
            ("release.json", "release.json"),
            ("", ""),
        ] {
            assert_eq!(url(text), wanted);
        }
    }

    proptest! {
        #[test]
        fn user_information_and_query_never_show(user in "[a-z:/?#@]{0,8}", query in "[a-z@/]{0,8}") {
            let shown = url(&format!("https://{user}MARKER@host/path?{query}MARKER"));
            prop_assert!(!shown.contains("MARKER"), "{shown}");
        }

        #[test]
        fn no_secret_is_left(
            before in "[a-z ,:(`\"]{0,10}",
            password in "S3CRET[!#-.0-9:;<=>A-Z\\[\\]^_a-z{|}~]{0,8}",
            query in "[a-z=&()';:,!$*+@/?.-]{0,10}S3CRET",
            after in "[ `\"][a-z ]{0,10}",
            twice in any::<bool>(),
        ) {
            let password = password.replace(['#', '?'], "");
            let one = format!("{before} https://user:{password}@host.example:8443/a/b?{query}{after}");
            let text = if twice { format!("{one}{one}") } else { one };
            let shown = urls(&text);
            assert!(!shown.contains("S3CRET"), "{text}: {shown}");
            assert!(shown.contains("https://host.example:8443/a/b?…"), "{text}: {shown}");
        }
    }
}
