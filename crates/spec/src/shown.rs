//! URLs for consoles, logs and reports: without what may be a password.

/// A URL, or what was meant to be one, without its user information (RFC 3986, section 3.2.1), query and fragment: each of them may
/// be a credential, as in signed URLs of object stores.
///
/// Made for wrong texts too: whatever comes before an `@` is dropped, also where a URL parser would see a path.
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

#[cfg(test)]
mod tests {
    use super::url;
    use proptest::prelude::{prop_assert, proptest};

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
    }
}
