//! One page for a browser: the results as data, and a script that draws them. Nothing is fetched.

use crate::results::Results;

/// The page but for its data.
const PAGE: &str = include_str!("page.html");

/// The page of a sweep.
pub fn html(results: &Results) -> String {
    let data = serde_json::to_string(results).expect("reports hold only strings, numbers and lists of them");
    // No text of the data may end the script that it stands in.
    let data = data.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    let title = results.title.replace('&', "&amp;").replace('<', "&lt;");
    PAGE.replacen("{{title}}", &title, 1).replacen("{{data}}", &data, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{results, variant};

    #[test]
    fn no_name_leaves_the_data_and_nothing_is_fetched() {
        let mut results = results(vec![variant("</script><b>", 1, 1.0, 0.5)]);
        results.title = "a <b>".to_owned();
        let page = html(&results);
        assert!(!page.contains("</script><b>") && page.contains("\\u003c/script>"));
        assert!(page.contains("<title>a &lt;b></title>"));
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
        }
    }
}
