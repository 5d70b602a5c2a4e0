//! `pack` and `unpack`: files, folders and pipes come back bit for bit, verbs read packed files, and what is damaged leaves
//! nothing behind.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::*;

/// A Llama as a folder `model/` of two shards with its small files, and as `model.safetensors`.
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let tensors = llama(SMALL, "BF16", 1);
    let shards = [tensors[..6].to_vec(), tensors[6..].to_vec()];
    write_folder(&dir.path().join("model"), &shards, Some(&llama_config(SMALL)), &COMPANIONS);
    ok_in(dir.path(), "convert model -o model.safetensors --quiet");
    dir
}

fn bytes(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(name)).unwrap()
}

#[test]
fn files_folders_and_pipes_come_back_bit_for_bit() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "pack model.safetensors -o file.dlpk -q");
    ok_in(dir, "unpack file.dlpk -o again.safetensors -q");
    assert!(bytes(dir, "again.safetensors") == bytes(dir, "model.safetensors"));
    assert!(bytes(dir, "file.dlpk").len() < bytes(dir, "model.safetensors").len() * 9 / 10);

    ok_in(dir, "pack model -o folder.dlpk -q");
    ok_in(dir, "unpack folder.dlpk -o again -q");
    assert_same_folders(&dir.join("model"), &dir.join("again"));

    let through = pipe_in(dir, None, &["convert model.safetensors -q", "pack -q", "unpack -q"]).ok();
    assert!(through == ok_in(dir, "convert model.safetensors -q").stdout);
    let piped = pipe_in(dir, Some(&bytes(dir, "model.safetensors")), &["pack - -q"]).ok();
    assert!(piped == bytes(dir, "file.dlpk"), "a pipe gives the same container as the file");
}

#[test]
fn quantized_and_pruned_checkpoints_pack_to_the_entropy_of_their_codes() {
    let ground = ground();
    let dir = ground.path();
    for (make, most) in [
        ("quantize model.safetensors --scheme w4a16 --group 32 -q", 1.0),
        ("prune model.safetensors --sparsity 0.9 -q", 0.5),
        ("quantize model.safetensors --scheme w8a8 -q", 1.0),
    ] {
        let made = ok_in(dir, make).stdout;
        fs::write(dir.join("made.safetensors"), &made).unwrap();
        let report = json_out(&ok_in(dir, "pack made.safetensors -o made.dlpk --json --force"));
        assert!(pipe_in(dir, None, &["unpack made.dlpk -q"]).ok() == made, "{make}");
        assert_eq!(report["bytes_before"], made.len());
        assert_eq!(report["bytes_after"], bytes(dir, "made.dlpk").len());
        let numbers = |kind: &str| ["exponents", "mantissas", "codes", "bytes"].contains(&kind);
        let planes = report["planes"].as_array().unwrap().iter().filter(|p| numbers(p["kind"].as_str().unwrap()));
        let (packed, entropy) = planes.fold((0.0, 0.0), |(packed, entropy), plane| {
            (packed + plane["packed_bytes"].as_f64().unwrap(), entropy + plane["entropy_bytes"].as_f64().unwrap())
        });
        // The tensors are small, so tables count.
        assert!(packed < 1.15 * entropy && packed < most * made.len() as f64, "{make}: {packed} of {entropy}");
        assert!(make.contains("prune") || report["planes"].to_string().contains("codes") == make.contains("w4a16"));
    }
}

#[test]
fn codes_of_a_pruned_codebook_take_less_than_a_bit() {
    let ground = ground();
    let dir = ground.path();
    let line = ["prune model.safetensors --sparsity 0.9 -q", "quantize --scheme codebook --bits 4 -q"];
    let shared = pipe_in(dir, None, &line).ok();
    fs::write(dir.join("shared.safetensors"), &shared).unwrap();
    let report = json_out(&ok_in(dir, "pack shared.safetensors -o shared.dlpk --json"));
    let planes = report["planes"].as_array().unwrap();
    let codes = planes.iter().find(|plane| plane["kind"] == "codes").unwrap();
    let (symbols, packed) = (codes["symbols"].as_f64().unwrap(), codes["packed_bytes"].as_f64().unwrap());
    // A tenth of the weights has one of fifteen values: 0.47 bits for where, 0.4 for which, and a table a tensor.
    assert!(packed * 8.0 < 1.1 * symbols, "{packed} bytes for {symbols} weights");
    assert!(pipe_in(dir, None, &["unpack shared.dlpk -q"]).ok() == shared);
}

#[test]
fn verbs_read_packed_files_as_any_other() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "pack model.safetensors -o model.dlpk -q");
    let pruned = ok_in(dir, "prune model.safetensors --sparsity 0.5 --scope global -q").stdout;
    assert!(ok_in(dir, "prune model.dlpk --sparsity 0.5 --scope global -q").stdout == pruned);
    assert!(pipe_in(dir, Some(&bytes(dir, "model.dlpk")), &["prune --sparsity 0.5 --scope global -q"]).ok() == pruned);
    let [plain, packed] =
        ["model.safetensors", "model.dlpk"].map(|name| json_out(&ok_in(dir, &format!("inspect {name} --json"))));
    assert_eq!(plain["tensors"], packed["tensors"]);
    ok_in(dir, "diff model.safetensors model.dlpk");
    ok_in(dir, "pack model -o folder.dlpk -q");
    let folder = run_in(dir, "inspect folder.dlpk");
    assert_code(&folder, 1, "a packed folder");
    assert!(err(&folder).contains("holds a folder") && err(&folder).contains("unpack"), "{}", err(&folder));
}

#[test]
fn a_trained_network_is_evaluated_from_its_packed_file() {
    let ground = digits_ground();
    let dir = ground.path();
    ok_in(dir, "pack m.safetensors -o m.dlpk -q");
    let [plain, packed] = ["m.safetensors", "m.dlpk"].map(|name| {
        json_out(&ok_in(dir, &format!("eval {name} --data d.safetensors --json")))["model"]["metrics"].clone()
    });
    assert!(plain["classification"]["accuracy"]["value"].as_f64().unwrap() > 0.5, "{plain}");
    assert_eq!(plain, packed);
}

#[test]
fn what_is_damaged_is_named_and_leaves_nothing() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "pack model.safetensors -o file.dlpk -q");
    ok_in(dir, "pack model -o folder.dlpk -q");
    let before = names_in(dir);
    for name in ["file.dlpk", "folder.dlpk"] {
        let good = bytes(dir, name);
        let refused = |bytes: &[u8], what: &[&str]| {
            fs::write(dir.join("wrong.dlpk"), bytes).unwrap();
            let done = run_in(dir, "unpack wrong.dlpk -o out");
            assert_code(&done, 1, name);
            let text = err(&done);
            assert!(what.iter().all(|part| text.contains(part)), "{text}");
            fs::remove_file(dir.join("wrong.dlpk")).unwrap();
            assert_eq!(names_in(dir), before, "{name}");
        };
        refused(&good[..good.len() - 1], &["wrong.dlpk: ends at byte"]);
        refused(&good[..good.len() / 2], &["ends at byte", "within block"]);
        refused(&[&good[..], b"x"].concat(), &["something follows its end"]);
        let mut flipped = good.clone();
        let middle = good.len() * 2 / 3;
        flipped[middle] ^= 0x10;
        refused(&flipped, &["block 0 of tensor `", "at byte"]);
        refused(b"PK\x03\x04 and more", &["no container of `dlopt pack`"]);
    }
    for line in ["unpack folder.dlpk", "unpack folder.dlpk -o -"] {
        let done = run_in(dir, line);
        assert_code(&done, 2, line);
        assert!(err(&done).contains("-o FOLDER"), "{}", err(&done));
    }
    let twice = run_in(dir, "pack file.dlpk -o twice.dlpk");
    assert_code(&twice, 1, "packed twice");
    assert!(err(&twice).contains("packed already"), "{}", err(&twice));
    let text = pipe_in(dir, Some(b"this is no checkpoint, and it comes without a length"), &["pack -q"]);
    assert_eq!(text.codes, [Some(1)], "text through a pipe: {:?}", text.errors);
    assert_code(&run_in(dir, "pack nothing -o out.dlpk"), 1, "no input");
    assert_eq!(names_in(dir), before);
}

#[test]
fn an_output_never_replaces_or_joins_its_input() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "pack model -o folder.dlpk -q");
    ok_in(dir, "pack model.safetensors -o file.dlpk -q");
    fs::create_dir(dir.join("above")).unwrap();
    fs::copy(dir.join("folder.dlpk"), dir.join("above/folder.dlpk")).unwrap();
    let packed = bytes(dir, "file.dlpk");
    let (before, inside) = (names_in(dir), names_in(&dir.join("model")));
    for line in [
        "pack model -o model/all.dlpk",
        "pack model.safetensors -o model.safetensors --force",
        "unpack file.dlpk -o file.dlpk --force",
        "unpack above/folder.dlpk -o above --force",
    ] {
        let done = run_in(dir, line);
        assert_code(&done, 2, line);
        assert!(err(&done).contains("is read, and is never modified"), "{}", err(&done));
    }
    assert_eq!((names_in(dir), names_in(&dir.join("model"))), (before, inside));
    assert!(bytes(dir, "file.dlpk") == packed && dir.join("above/folder.dlpk").exists());
}

#[test]
fn every_flag_changes_something() {
    let ground = ground();
    let dir = ground.path();
    for (verb, input) in [("pack", "model.safetensors"), ("unpack", "in.dlpk")] {
        ok_in(dir, "pack model.safetensors -o in.dlpk -q --force");
        let streamed = ok_in(dir, &format!("{verb} {input} -q")).stdout;
        for flag in ["-o", "--output"] {
            assert!(ok_in(dir, &format!("{verb} {input} {flag} out --force -q")).stdout.is_empty());
            assert!(bytes(dir, "out") == streamed);
        }
        fs::write(dir.join("out"), "mine").unwrap();
        let refused = run_in(dir, &format!("{verb} {input} -o out"));
        assert_code(&refused, 1, verb);
        assert!(err(&refused).contains("--force") && bytes(dir, "out") == b"mine", "{}", err(&refused));
        ok_in(dir, &format!("{verb} {input} -o out --force"));
        assert!(bytes(dir, "out") == streamed);

        assert!(ok_in(dir, &format!("{verb} {input} -q --threads 1")).stdout == streamed);
        assert!(ok_in(dir, &format!("{verb} {input} -q --threads 5")).stdout == streamed);
        assert_code(&run_in(dir, &format!("{verb} {input} --threads 0")), 2, "no threads");

        let loud = ok_in(dir, &format!("{verb} {input} -o out --force"));
        assert!(err(&loud).contains("MB/s") && loud.stdout.is_empty(), "{}", err(&loud));
        for flag in ["-q", "--quiet"] {
            assert!(err(&ok_in(dir, &format!("{verb} {input} -o out --force {flag}"))).is_empty());
        }
        let report = json_out(&ok_in(dir, &format!("{verb} {input} -o out --force --json")));
        assert_eq!(report["files"], 1);
        let beside = ok_in(dir, &format!("{verb} {input} --json"));
        assert!(beside.stdout == streamed && err(&beside).contains("\"files\": 1"), "{}", err(&beside));
        let turned = ["force", "json", "output", "quiet", "threads"].map(str::to_owned);
        assert_eq!(shown_flags(verb), turned.into_iter().collect::<BTreeSet<_>>());
    }
}
