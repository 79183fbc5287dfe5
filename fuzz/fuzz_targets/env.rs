//! The environment file's reader and editor on any text: they never panic, an edit changes its value and nothing else, and a repair
//! loses no setting.
#![no_main]

use gateway::env::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (text, value) = input;
    let document = Document::parse(text);
    assert_eq!(document.text(), text);
    let (repaired, _) = document.repaired();
    assert!(document.values().keys().all(|key| repaired.get(key).is_some()));
    let keys: Vec<String> = document.values().into_keys().map(str::to_owned).collect();
    for key in keys.iter().map(String::as_str).chain(["NEW_KEY"]) {
        let Ok(edited) = document.set(key, value) else { continue };
        assert_eq!(edited.get(key), Some(value));
        let (mut before, mut after) = (document.values(), edited.values());
        before.remove(key);
        after.remove(key);
        assert_eq!(before, after);
    }
});
