use super::*;

fn step(options: &str) -> Box<dyn Step> {
    (KIND.make)(KIND.name, serde_json::from_str(options).unwrap()).unwrap()
}

fn refused(options: &str) -> String {
    (KIND.make)(KIND.name, serde_json::from_str(options).unwrap()).unwrap_err().message().to_owned()
}

fn learned(options: &str, texts: &[&str]) -> Box<dyn Step> {
    let mut fit = step(options).fitting().unwrap();
    texts.iter().for_each(|text| fit.see(&Raw::Text((*text).to_owned())).unwrap());
    let fitted = fit.fitted().unwrap();
    // What is kept of it makes the same step again.
    let again = step(&serde_json::to_string(&fitted.options()).unwrap());
    assert!(again.fitting().is_none());
    assert_eq!(again.options(), fitted.options());
    again
}

fn tokens(step: &dyn Step, text: &str) -> Vec<u32> {
    match step.apply(Raw::Text(text.to_owned())).unwrap() {
        Raw::Tokens(tokens) => tokens,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_are_their_own_numbers() {
    let plain = step("{}");
    assert!(plain.fitting().is_none());
    assert_eq!(tokens(&*plain, "aß"), [97, 195, 159]);
    assert_eq!(tokens(&*plain, ""), [0]);
    let vocabulary = plain.tokens().unwrap();
    assert_eq!((vocabulary.size(), vocabulary.bounds()), (256, None));
    assert_eq!(vocabulary.decode(&[97, 195, 159]), "aß");
    assert_eq!((vocabulary.symbol(97), vocabulary.symbol(10)), ("a".to_owned(), "\\n".to_owned()));

    let bounded = step(r#"{"how": "bytes", "bounds": true, "length": 3}"#);
    assert_eq!(tokens(&*bounded, "abcd"), [97, 98, 257]);
    assert_eq!(tokens(&*bounded, ""), [257]);
    let vocabulary = bounded.tokens().unwrap();
    assert_eq!((vocabulary.size(), vocabulary.bounds()), (258, Some((256, 257))));
    assert_eq!(vocabulary.decode(&[256, 97, 257, 0]), "a\0");
    assert_eq!(vocabulary.symbol(256), "<s>");

    let ended = step(r#"{"end": true}"#);
    assert_eq!((tokens(&*ended, "a"), ended.tokens().unwrap().size()), (vec![97, 256], 257));
}

#[test]
fn the_most_frequent_symbols_are_learned_and_ties_go_by_text() {
    let words = learned(r#"{"how": "words", "limit": 3, "lowercase": true}"#, &["The cat, the dog.", "A cat."]);
    // the 2, cat 2, `.` 2; then `,`, a, dog.
    assert_eq!(words.options()["symbols"], serde_json::json!(["<pad>", "<unk>", ".", "cat", "the"]));
    assert_eq!(tokens(&*words, "The dog is THE cat."), [4, 1, 1, 4, 3, 2]);
    assert_eq!(tokens(&*words, " \n "), [1]);
    assert_eq!(words.tokens().unwrap().decode(&[4, 3, 1, 2, 0, 0]), "the cat <unk> .");
    assert_eq!(words.tokens().unwrap().bounds(), None);
}

#[test]
fn characters_are_concatenated_and_symbols_joined() {
    let chars = learned(r#"{"how": "chars", "end": true}"#, &["äbb", "b"]);
    assert_eq!(chars.options()["symbols"], serde_json::json!(["<pad>", "<unk>", "</s>", "b", "ä"]));
    assert_eq!(tokens(&*chars, "bäx"), [3, 4, 1, 2]);
    assert_eq!(chars.tokens().unwrap().decode(&[3, 4, 2, 0]), "bä");
    let symbols = learned(r#"{"how": "symbols", "bounds": true}"#, &["K AE1 T", "K </s>"]);
    assert_eq!(symbols.options()["symbols"], serde_json::json!(["<pad>", "<unk>", "<s>", "</s>", "K", "AE1", "T"]));
    // A text cannot end a sequence.
    assert_eq!(tokens(&*symbols, "AE1 </s> K"), [5, 1, 4, 3]);
    let vocabulary = symbols.tokens().unwrap();
    assert_eq!(vocabulary.bounds(), Some((2, 3)));
    assert_eq!(vocabulary.decode(&[2, 4, 5, 3]), "K AE1");
    assert_eq!((vocabulary.symbol(5), vocabulary.symbol(99)), ("AE1".to_owned(), "<unk>".to_owned()));
}

#[test]
fn a_list_of_symbols_is_taken_as_it_is() {
    let listed = step(r#"{"how": "chars", "symbols": ["b", "</s>", "a"], "end": true}"#);
    assert!(listed.fitting().is_none());
    assert_eq!(tokens(&*listed, "ab"), [2, 0, 1]);
    let error = listed.apply(Raw::Text("abc".to_owned())).unwrap_err();
    assert_eq!(error.message(), "`c` is none of the 2 symbols");
    assert!(refused(r#"{"how": "chars", "symbols": ["a", "a"]}"#).contains("`a` twice"));
    assert!(refused(r#"{"how": "chars", "symbols": ["a"], "bounds": true}"#).contains("no `<s>`"));
    assert!(refused(r#"{"how": "chars", "symbols": []}"#).contains("holds none"));
}

#[test]
fn tokens_pass_and_other_samples_are_refused() {
    let words = learned(r#"{"how": "words"}"#, &["a"]);
    assert_eq!(words.apply(Raw::Tokens(vec![7])).unwrap(), Raw::Tokens(vec![7]));
    let error = words.apply(Raw::Row(crate::raw::Values::U8(vec![1]))).unwrap_err();
    assert_eq!(error.message(), "`tokenise` is for texts, and the samples are rows of numbers");
    assert!(step(r#"{"how": "words"}"#).apply(Raw::Text("a".to_owned())).is_err());
    let fit = || step(r#"{"how": "words"}"#).fitting().unwrap();
    assert!(fit().fitted().err().unwrap().message().contains("the training texts are empty"));
    assert!(fit().see(&Raw::Tokens(vec![1])).is_err());
}

#[test]
fn wrong_options_are_refused() {
    for (options, message) in [
        (r#"{"how": "bytes", "limit": 5}"#, "are for chars, words and symbols"),
        (r#"{"how": "words", "limit": 0}"#, "`limit` at least 1"),
        (r#"{"length": 1, "end": true}"#, "`length` is at least 2"),
        (r#"{"how": "tokenizer"}"#, "named with file=PATH"),
        (r#"{"file": "/nonexistent/tokenizer.json"}"#, "no such file"),
        (r#"{"how": "letters"}"#, "unknown variant `letters`"),
        (r#"{"limits": 3}"#, "unknown field `limits`"),
        (r#"{"tokenizer": {"version": "1.0"}}"#, "no tokenizer.json that dlopt reads"),
    ] {
        let found = refused(options);
        assert!(found.contains(message), "{options}: {found}");
    }
}

/// The words `hello` and `world`, and marks as BERT has them.
const TOKENIZER: &str = r###"{
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
        {"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        {"id": 2, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
    ],
    "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "hello": 3, "world": 4, "##s": 7}}
}"###;

#[test]
fn a_tokenizer_of_others_is_kept_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, TOKENIZER).unwrap();
    let options = serde_json::json!({"file": path});
    let first = step(&options.to_string());
    std::fs::remove_file(&path).unwrap();
    assert!(!serde_json::to_string(&first.options()).unwrap().contains("tokenizer.json"));
    let again = step(&serde_json::to_string(&first.options()).unwrap());
    assert_eq!(tokens(&*again, "Hello worlds"), [1, 3, 4, 7, 2]);
    let vocabulary = again.tokens().unwrap();
    assert_eq!((vocabulary.size(), vocabulary.bounds()), (8, None));
    assert_eq!(vocabulary.decode(&[1, 3, 4, 7, 2]), "hello worlds");
    assert_eq!((vocabulary.symbol(3), vocabulary.symbol(6)), ("hello".to_owned(), "<unk>".to_owned()));

    let mut bounded = first.options();
    bounded.insert("bounds".to_owned(), true.into());
    bounded.insert("length".to_owned(), 2.into());
    let bounded = step(&serde_json::to_string(&bounded).unwrap());
    assert_eq!(tokens(&*bounded, "Hello worlds"), [3, 2]);
    assert_eq!(bounded.tokens().unwrap().bounds(), Some((1, 2)));
}
