//! Distillation end to end: a teacher and data in, a student out, the same bytes whatever the threads and however often it
//! is killed, and one clear error for everything that cannot be meant.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{
    DLOPT, Random, Stored, Tensor, assert_code, err, files_below, json_out, names_in, ok_in, out, parse, pipe_in,
    read_file, read_json, run_in, temp_dir, texts, write_file,
};

/// Points around the centres of three classes, which overlap.
fn table(names: [&str; 3]) -> String {
    let mut random = Random::new(5);
    let mut text = String::from("a,b,c,d,class\n");
    for row in 0..97 {
        let class = [0, 1, 0, 2, 1, 0][row % 6];
        for feature in 0..4 {
            let centre = if feature % 3 == class { 1.2 } else { -0.3 };
            let _ = write!(text, "{},", centre + random.normal());
        }
        let _ = writeln!(text, "{}", names[class]);
    }
    text
}

/// A network of one hidden layer.
fn net(units: usize) -> String {
    format!(
        "layers = [{{ type = \"dense\", units = {units}, activation = \"relu\" }}, {{ type = \"dense\", units = \"classes\" }}]"
    )
}

/// A folder with data of three classes (57 rows to train on, 15 to watch, 25 to test), a teacher of 23 hidden units, which
/// learned for some epochs, another of 11, and the description of a student of 5.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Self(temp_dir());
        let dir = ground.dir();
        fs::write(dir.join("d.csv"), table(["red", "green", "blue"])).unwrap();
        for units in [5, 11, 23] {
            fs::write(dir.join(format!("net{units}.toml")), net(units)).unwrap();
        }
        ground.ok("prepare d.csv --split-at 57,72 -q -o d.safetensors");
        let line = "train --data d.safetensors --epochs 8 --batch 8 --learning-rate 0.02 --threads 1 -q";
        ground.ok(&format!("{line} --model net23.toml -o t.safetensors"));
        ground.ok(&format!("{line} --model net11.toml --seed 3 -o t2.safetensors"));
        ground
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn ok(&self, line: &str) -> Output {
        ok_in(self.dir(), line)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir().join(name)).unwrap()
    }

    /// Distils with more flags, and gives the bytes and the report.
    fn distil(&self, more: &str) -> (Vec<u8>, Value) {
        let report = json_out(&self.ok(&line(&format!("--json -o s.safetensors --force {more}"))));
        (self.bytes("s.safetensors"), report)
    }

    /// Refused with this code, for reasons that are told in one error, and no file is written.
    fn refused(&self, line: &str, code: i32, said: &[&str]) {
        let before = files_below(self.dir());
        let done = run_in(self.dir(), line);
        assert_code(&done, code, line);
        let errors = err(&done);
        for said in said {
            assert!(errors.contains(said), "{line}\nwanted {said}\n{errors}");
        }
        assert_eq!(errors.lines().filter(|l| l.starts_with("error")).count(), 1, "{line}\n{errors}");
        assert!(files_below(self.dir()) == before, "{line} changed a file");
    }
}

/// A distillation in which `more` replaces or adds flags.
fn line(more: &str) -> String {
    let mut line = "distill".to_owned();
    let usual = [
        ("--teacher", "t.safetensors"),
        ("--student", "net5.toml"),
        ("--data", "d.safetensors"),
        ("--epochs", "2"),
        ("--batch", "8"),
        ("--threads", "1"),
    ];
    for (flag, value) in usual {
        if !more.split_whitespace().any(|word| word == flag) {
            let _ = write!(line, " {flag} {value}");
        }
    }
    line + " " + more
}

fn shapes(bytes: &[u8]) -> Vec<Vec<usize>> {
    parse(bytes).tensors.into_values().map(|tensor| tensor.shape).collect()
}

#[test]
fn a_student_is_a_preset_a_description_a_checkpoint_or_a_change_of_the_teacher() {
    let g = Ground::new();
    let (described, report) = g.distil("");
    assert!(shapes(&described).contains(&vec![5, 4]), "{:?}", shapes(&described));
    assert_eq!(report["student"]["cost"]["parameters"], 4 * 5 + 5 + 5 * 3 + 3);
    let (preset, _) = g.distil("--student mlp");
    assert!(shapes(&preset).len() > 4);
    let (half, _) = g.distil("--student width=0.5");
    assert!(shapes(&half).contains(&vec![12, 4]) || shapes(&half).contains(&vec![11, 4]), "{:?}", shapes(&half));
    let (fresh, _) = g.distil("--student width=0.5 --start fresh");
    assert!(shapes(&fresh) == shapes(&half) && fresh != half);
    // A checkpoint goes on from where it is: no epoch changes nothing.
    let (same, _) = g.distil("--student t2.safetensors --epochs 0");
    let (own, before) = (parse(&same), read_file(&g.dir().join("t2.safetensors")));
    assert!(own.tensors == before.tensors);
    let (taught, _) = g.distil("--student t2.safetensors");
    assert!(shapes(&taught) == shapes(&same) && taught != same);
}

#[test]
fn a_pruned_or_quantized_network_can_teach_and_a_pruned_one_can_learn() {
    let g = Ground::new();
    g.ok("prune t.safetensors --sparsity 0.5 -o pruned.safetensors -q");
    g.ok("quantize t.safetensors --scheme w8a16 --group channel -o int8.safetensors -q");
    let all = ["t", "pruned", "int8"].map(|name| g.distil(&format!("--teacher {name}.safetensors")).0);
    assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    g.distil("--student pruned.safetensors");
}

#[test]
fn several_teachers_count_by_their_weights() {
    let g = Ground::new();
    let of = |teachers: &str| g.distil(teachers);
    let (one, report) = of("--teacher t.safetensors");
    assert_eq!(report["teacher"]["costs"].as_array().unwrap().len(), 1);
    let (both, report) = of("--teacher t.safetensors --teacher t2.safetensors");
    assert_eq!(report["teacher"]["costs"].as_array().unwrap().len(), 2);
    let (weighted, _) = of("--teacher t.safetensors=3 --teacher t2.safetensors=1");
    assert!(one != both && both != weighted);
    // Weights are shares: twice as much of both is the same teacher, under the same config.
    assert!(of("--teacher t.safetensors=6 --teacher t2.safetensors=2").0 == weighted);
    let text = out(&g.ok(&line("--teacher t.safetensors=3 --teacher t2.safetensors --dry-run")));
    assert!(text.contains("counts 0.750") && text.contains("counts 0.250"), "{text}");
}

#[test]
fn a_student_on_standard_output_is_quantized_as_it_comes() {
    let g = Ground::new();
    let (whole, _) = g.distil("");
    let piped = g.ok(&line("-q"));
    assert!(piped.stdout == whole && piped.stderr.is_empty());
    let packed = pipe_in(g.dir(), None, &[&line("-q"), "quantize --scheme w8a16 --group channel -q"]).ok();
    assert!(parse(&packed).tensors.values().any(|tensor| tensor.dtype != "F32"));
    fs::write(g.dir().join("packed.safetensors"), packed).unwrap();
    g.ok("eval packed.safetensors --data d.safetensors -q");
}

#[test]
fn a_teacher_on_standard_input_is_asked_about_the_test_split_too() {
    let g = Ground::new();
    let more = "--json --control -o s.safetensors --force";
    let (wanted, from_file) = g.distil("--control");
    let piped = pipe_in(g.dir(), Some(&g.bytes("t.safetensors")), &[&line(&format!("--teacher - {more}"))]).ok();
    let report: Value = serde_json::from_slice(&piped).unwrap();
    assert!(g.bytes("s.safetensors") == wanted, "the student is the same");
    for part in ["accuracy", "loss", "calibration_error"] {
        assert_eq!(report["teacher"][part], from_file["teacher"][part], "{part}");
    }
    assert_eq!((&report["gain"], &report["rows"]), (&from_file["gain"], &25.into()));
    let cost = &report["teacher"]["costs"][0];
    // Four features, 23 hidden units, three classes; weights in 32 bits.
    assert_eq!((&cost["parameters"], &cost["bytes"]), (&187.into(), &748.into()));
    assert!(
        cost["samples_per_second"].as_f64().unwrap() > 0.0 && cost["milliseconds"].as_f64().unwrap() > 0.0,
        "{cost}"
    );
    // As it comes out of another verb, with its own statistics, beside a teacher in a file.
    let both = format!("--teacher - --teacher t2.safetensors --use-own-preprocessing {more}");
    let pruned = pipe_in(g.dir(), None, &["prune t.safetensors --sparsity 0.5 -q", &line(&both)]).ok();
    let report: Value = serde_json::from_slice(&pruned).unwrap();
    assert_eq!(report["teacher"]["costs"].as_array().unwrap().len(), 2, "{report}");
    let kept = pipe_in(
        g.dir(),
        Some(&g.bytes("t.safetensors")),
        &["logits --teacher - --data d.safetensors --use-own-preprocessing -q -o a.safetensors"],
    );
    assert!(kept.ok().is_empty());
    g.distil("--cache-teacher a.safetensors");
}

#[test]
fn threads_change_no_byte() {
    let g = Ground::new();
    let more = "--student net11.toml --loss kd=0.7,temperature=3 --loss hint=fc1:0.2 --loss ce=0.3 --seeds 2 --control";
    let one = g.distil(&format!("{more} --threads 1")).0;
    for threads in [2, 5] {
        assert!(g.distil(&format!("{more} --threads {threads}")).0 == one, "{threads} threads");
    }
    assert!(g.distil(&format!("{more} --seed 1")).0 != one);
}

/// Everything that has a state: a regressor with its moments, ramps, an average, a plateau, two seeds, controls.
const STATEFUL: &str = "--student net11.toml --loss kd=0.9..0.4,temperature=6..2@0.5 --loss hint=fc1:0.3 --loss ce=0.1..0.5 \
                        --optimizer adamw --average 0.9 --schedule plateau=0.5,1 --accumulate 2 --epochs 7 --seeds 2 \
                        --control --save-every 1 --augment-op noise=0.1 --cache-dtype f32 -q";

#[test]
fn a_run_that_is_killed_ends_in_the_bytes_of_one_that_was_not() {
    let g = Ground::new();
    let dir = g.dir();
    g.ok(&line(&format!("{STATEFUL} --cache-teacher a.safetensors -o whole.safetensors --threads 1")));
    let mut kills = 0;
    for attempt in 0_u64.. {
        assert!(attempt < 400, "the run never ends");
        let state = dir.join("killed.safetensors.dlopt-training");
        let has_state = fs::read_dir(&state).is_ok_and(|files| files.count() > 0);
        let resume = if has_state { "--resume" } else { "--force" };
        let threads = 1 + attempt % 3;
        let more =
            format!("{STATEFUL} --cache-teacher b.safetensors -o killed.safetensors --threads {threads} {resume}");
        let line = line(&more);
        let mut child =
            Command::new(DLOPT).args(line.split_whitespace()).current_dir(dir).stderr(Stdio::piped()).spawn().unwrap();
        // Later and later, so that it ends however slow the machine is.
        std::thread::sleep(Duration::from_millis(15 + 7 * attempt));
        if let Some(status) = child.try_wait().unwrap() {
            let errors = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
            assert!(status.success(), "{errors}");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0, "it was never killed");
    assert!(g.bytes("a.safetensors") == g.bytes("b.safetensors"), "the answers of the teacher differ");
    assert!(g.bytes("whole.safetensors") == g.bytes("killed.safetensors"), "the students differ");
    assert!(!dir.join("killed.safetensors.dlopt-training").exists());
}

/// Starts a distillation of many epochs and kills it when a file is there.
fn killed_at(g: &Ground, line: &str, file: &str) {
    let mut child =
        Command::new(DLOPT).args(line.split_whitespace()).current_dir(g.dir()).stdin(Stdio::null()).spawn().unwrap();
    for _ in 0..6000 {
        if g.dir().join(file).exists() {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote {file}");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_resume_asked_differently_is_refused_whatever_was_finished() {
    let g = Ground::new();
    let long = line("--epochs 300 --save-every 1 --seeds 2 -o s.safetensors -q");
    killed_at(&g, &long, "s.safetensors.dlopt-training/student-0.state.safetensors");
    g.refused(&long, 1, &["a run was stopped here", "--resume"]);
    g.refused(&format!("{long} --resume --learning-rate 0.5"), 2, &["learning_rate"]);
    g.refused(&format!("{long} --resume --loss kd=1"), 2, &["losses"]);
    g.refused(&line("-o other.safetensors --resume"), 1, &["no state to go on from"]);
    g.refused(&line("--resume"), 2, &["-o OUT"]);
    // A run that is finished is of the same command, too.
    let short = line("--epochs 40 --save-every 1 --seeds 9 -o f.safetensors -q");
    killed_at(&g, &short, "f.safetensors.dlopt-training/student-0.safetensors");
    g.refused(&format!("{short} --resume --learning-rate 0.5"), 2, &["learning_rate"]);
    let other = short.replace("net5.toml", "net11.toml");
    g.refused(&format!("{other} --resume"), 2, &["had another"]);
}

#[test]
fn kept_answers_serve_students_as_the_teacher_does() {
    let g = Ground::new();
    let (live, _) = g.distil("--loss kd=0.9,temperature=4 --loss ce=0.1 --loss hint=fc1:0.1 --student net11.toml");
    // What is kept in 32 bits is what was said; the settings alone tell that it was kept.
    let more = "--loss kd=0.9,temperature=4 --loss ce=0.1 --loss hint=fc1:0.1 --student net11.toml";
    let (cached, _) = g.distil(&format!("{more} --cache-teacher own.safetensors --cache-dtype f32"));
    assert!(parse(&live).tensors == parse(&cached).tensors);
    let (again, _) = g.distil(&format!("{more} --cache-teacher own.safetensors --cache-dtype f32"));
    assert!(again == cached);
    g.ok("logits --teacher t.safetensors --data d.safetensors --layer fc1 --cache-dtype f32 -o kept.safetensors -q");
    assert!(g.bytes("kept.safetensors") == g.bytes("own.safetensors"));
    let (kept, _) = g.distil(&format!("{more} --cache-teacher kept.safetensors"));
    assert!(parse(&kept).tensors == parse(&live).tensors);
    let piped = g.ok("logits --teacher t.safetensors --data d.safetensors --layer fc1 --cache-dtype f32 -q");
    assert!(piped.stdout == g.bytes("kept.safetensors") && piped.stderr.is_empty());
    let stored = read_file(&g.dir().join("kept.safetensors"));
    assert_eq!((stored.get("logits").shape.clone(), stored.get("logits").dtype.as_str()), (vec![57, 1, 3], "F32"));
    assert_eq!(stored.get("feature.fc1").shape, [57, 1, 1, 23]);
}

#[test]
fn kept_answers_in_16_bits_or_the_largest_alone_teach_nearly_the_same() {
    let g = Ground::new();
    let line = "logits --teacher t.safetensors --data d.safetensors -q -o";
    g.ok(&format!("{line} half.safetensors"));
    g.ok(&format!("{line} top.safetensors --top 1 --top-temperature 4"));
    let half = read_file(&g.dir().join("half.safetensors"));
    assert_eq!(half.get("logits").dtype, "F16");
    let top = read_file(&g.dir().join("top.safetensors"));
    assert_eq!(top.get("top.classes").shape, [57, 1, 1]);
    let (live, cached) = (g.distil("").0, g.distil("--cache-teacher half.safetensors").0);
    let largest = g.distil("--cache-teacher top.safetensors").0;
    for (name, tensor) in parse(&live).tensors {
        for (a, b) in tensor.values().iter().zip(parse(&cached).get(&name).values()) {
            assert!((a - b).abs() < 2e-3, "{name}: {a} and {b}");
        }
    }
    assert!(parse(&largest).tensors != parse(&live).tensors);
}

#[test]
fn views_of_an_augmentation_are_kept_and_used_again() {
    let g = Ground::new();
    let views = "--augment-op noise=0.4 --augment-views 2 --augment-seed 9";
    let (live, _) = g.distil(&format!("{views} --epochs 4"));
    g.ok(&format!(
        "logits --teacher t.safetensors --data d.safetensors {views} --cache-dtype f32 -o views.safetensors -q"
    ));
    assert_eq!(read_file(&g.dir().join("views.safetensors")).get("logits").shape, [114, 1, 3]);
    let (cached, _) = g.distil(&format!("{views} --epochs 4 --cache-teacher views.safetensors"));
    assert!(parse(&live).tensors == parse(&cached).tensors);
    let more = views.replace("--augment-seed 9", "--augment-seed 8");
    let said = ["another seed of the augmentation", "views.safetensors"];
    g.refused(&line(&format!("{more} --epochs 4 --cache-teacher views.safetensors -o x.safetensors")), 1, &said);
}

#[test]
fn answers_that_were_stopped_go_on_and_come_to_the_same_bytes() {
    let g = Ground::new();
    // Several parts: each is kept as it comes.
    let line = "logits --teacher t.safetensors --data d.safetensors --augment-op noise=0.1 --augment-views 400 -q -o";
    g.ok(&format!("{line} whole.safetensors --threads 2"));
    let stopped = format!("{line} part.safetensors --threads 1");
    killed_at(&g, &stopped, "part.safetensors.dlopt-training/answers-000003.safetensors");
    g.refused(&stopped, 1, &["a run was stopped here", "--resume"]);
    g.ok(&format!("{stopped} --resume"));
    assert!(g.bytes("whole.safetensors") == g.bytes("part.safetensors"));
    assert!(!g.dir().join("part.safetensors.dlopt-training").exists());
}

#[test]
fn the_report_compares_teacher_students_and_controls() {
    let g = Ground::new();
    let more = "--seeds 2 --control --plot plot.svg --report report.json --epochs 3";
    let (_, report) = g.distil(more);
    assert_eq!(read_json(&g.dir().join("report.json")), report);
    assert_eq!((&report["split"], &report["rows"]), (&"test".into(), &25.into()));
    let share = |value: &Value| value.as_f64().filter(|v| (0.0..=1.0).contains(v)).is_some();
    assert!(share(&report["teacher"]["accuracy"]) && report["teacher"]["agreement"].is_null(), "{report}");
    for role in ["student", "control"] {
        let own = &report[role];
        assert_eq!(own["runs"].as_array().unwrap().len(), 2, "{role}");
        assert!(share(&own["mean"]["accuracy"]) && share(&own["mean"]["agreement"]), "{own}");
        assert!(own["mean"]["divergence"].as_f64().unwrap() >= 0.0 && own["deviation"]["loss"].is_number(), "{own}");
        assert_eq!(own["cost"]["parameters"], 43);
        assert_eq!(own["cost"]["multiply_adds"], 4 * 5 + 5 * 3);
    }
    let runs = |role: &str, seed: usize| report[role]["runs"][seed]["accuracy"].as_f64().unwrap();
    let mean = (0..2).map(|seed| runs("student", seed) - runs("control", seed)).sum::<f64>() / 2.0;
    assert!((report["gain"]["difference"].as_f64().unwrap() - mean).abs() < 1e-12, "{report}");
    assert!(report["gain"]["standard_error"].is_number());
    let histories = report["histories"].as_array().unwrap();
    let roles: Vec<_> = histories.iter().map(|h| (h["role"].as_str().unwrap(), h["seed"].as_u64().unwrap())).collect();
    assert_eq!(roles, [("student", 0), ("student", 1), ("control", 0), ("control", 1)]);
    assert!(histories.iter().all(|h| h["epochs"].as_array().unwrap().len() == 3));
    assert!(report["control_settings"]["distillation"].is_null() && report["settings"]["distillation"].is_object());
    let svg = fs::read_to_string(g.dir().join("plot.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("student") && svg.contains("control"), "{svg}");
    // The control is what `train` makes of the same network.
    let eval =
        |model: &str| json_out(&g.ok(&format!("eval {model} --data d.safetensors --json")))["model"]["metrics"].clone();
    g.ok("train --model net5.toml --data d.safetensors --epochs 3 --batch 8 --threads 1 -q -o c.safetensors");
    let accuracy = eval("c.safetensors")["classification"]["accuracy"]["value"].as_f64().unwrap();
    assert!((accuracy - runs("control", 0)).abs() < 1e-9, "{accuracy}");
    let accuracy = eval("s.safetensors")["classification"]["accuracy"]["value"].as_f64().unwrap();
    assert!((accuracy - runs("student", 0)).abs() < 1e-9, "{accuracy}");
    let told = err(&g.ok(&line("--control -o u.safetensors")));
    assert!(told.contains("student less control") && told.contains("as teacher"), "{told}");
}

#[test]
fn a_teacher_alone_is_learned_from_without_labels() {
    let g = Ground::new();
    let weights = |more: &str| parse(&g.distil(more).0).tensors;
    let base = "--loss kd=1,temperature=2 --validation none --test none";
    assert!(weights(base) != weights(&format!("{base} --loss ce=0.5")));
    assert!(weights(base) == weights(&format!("{base} --loss ce=0")));
}

#[test]
fn unlabelled_samples_teach_without_their_labels() {
    let g = Ground::new();
    let weights = |more: &str| parse(&g.distil(&format!("--validation none {more}")).0).tensors;
    let alone = weights("--loss ce=1");
    // Without a teacher's loss they add nothing but batches of which they are a part.
    let with = weights("--loss ce=1 --loss kd=1 --unlabelled validation");
    assert!(alone != with && with != weights("--loss ce=1 --loss kd=1"));
    assert!(with != weights("--loss ce=1 --loss kd=1 --split train+validation"));
    let (_, report) = g.distil("--validation none --unlabelled validation --control --batch 8 --epochs 4");
    assert_eq!(report["settings"]["training_split"], "train+validation");
    assert_eq!(report["control_settings"]["training_split"], "train");
    // As many updates: 9 batches of 72 samples, 8 of 57.
    assert_eq!(report["control_settings"]["epochs"], 5);
    g.refused(
        &line("--unlabelled validation --validation none --loss dkd=1 -o x.safetensors"),
        2,
        &["dkd", "needs labels", "kd=1"],
    );
    g.refused(&line("--unlabelled nothing -o x.safetensors"), 1, &["nothing"]);
}

#[test]
fn numbers_and_sequences_are_distilled_too() {
    let dir = temp_dir();
    let dir = dir.path();
    let mut random = Random::new(3);
    let mut text = String::from("a,b,y\n");
    for _ in 0..90 {
        let (a, b) = (random.normal(), random.normal());
        let _ = writeln!(text, "{a},{b},{}", 2.0 * a - b);
    }
    fs::write(dir.join("n.csv"), text).unwrap();
    fs::write(dir.join("net.toml"), net(5)).unwrap();
    ok_in(dir, "prepare n.csv --targets y --split-at 60 -q -o n.safetensors");
    ok_in(dir, "train --model mlp --data n.safetensors --epochs 2 -q -o n-t.safetensors");
    let line =
        "distill --teacher n-t.safetensors --student net.toml --data n.safetensors --epochs 2 -o n-s.safetensors";
    let refused = run_in(dir, &format!("{line} --loss kd=1"));
    assert_code(&refused, 2, "a distribution over numbers");
    assert!(err(&refused).contains("logit-mse"), "{}", err(&refused));
    let report = json_out(&ok_in(dir, &format!("{line} --loss logit-mse=1 --loss ce=0.5 --control --json")));
    assert!(report["student"]["mean"]["accuracy"].is_null() && report["gain"]["difference"].is_number(), "{report}");

    texts::spelled(&dir.join("w.safetensors"), 60, 40);
    ok_in(dir, "train --model seq2seq --data w.safetensors --epochs 1 --batch 16 -q -o w-t.safetensors");
    let line =
        "distill --teacher w-t.safetensors --student hidden=8 --data w.safetensors --epochs 1 --batch 16 --force";
    let report = json_out(&ok_in(dir, &format!("{line} --json -o w-s.safetensors")));
    assert!(report["rows"].as_u64().unwrap() > 20, "tokens are counted: {report}");
    ok_in(dir, &format!("{line} --cache-teacher w-c.safetensors --cache-dtype f32 -q -o w-c-s.safetensors"));
    let [live, cached] = ["w-s", "w-c-s"].map(|name| read_file(&dir.join(format!("{name}.safetensors"))).tensors);
    assert!(live == cached, "the kept answers are those of the teacher");
}

#[test]
fn a_dry_run_says_sizes_and_writes_nothing() {
    let g = Ground::new();
    let before = files_below(g.dir());
    let text = out(&g.ok(&line("--cache-teacher c.safetensors --loss hint=fc1:0.5 --dry-run -o x.safetensors")));
    assert!(text.contains("43 parameters") && text.contains("teacher t.safetensors: 187 parameters"), "{text}");
    // 57 rows of 3 logits and 23 features in 16 bits.
    assert!(text.contains("cache: 1 views of 57 samples, 2,964 bytes") && text.contains("hint=fc1:0.5"), "{text}");
    let text = out(&g.ok("logits --teacher t.safetensors --data d.safetensors --layer fc1 --dry-run -o x.safetensors"));
    assert!(text.contains("57 samples, 2,964 bytes"), "{text}");
    assert!(files_below(g.dir()) == before);
}

/// Writes a file again with other metadata and other tensors.
fn rewritten(
    from: &Path,
    to: &Path,
    metadata: impl Fn(&Stored) -> Vec<(String, String)>,
    change: impl Fn(&mut Tensor),
) {
    let stored = read_file(from);
    let metadata = metadata(&stored);
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut tensors: Vec<Tensor> = stored.names.iter().map(|name| stored.get(name).clone()).collect();
    tensors.iter_mut().for_each(change);
    write_file(to, &tensors, &metadata);
}

#[test]
fn teachers_that_cannot_teach_are_refused_and_the_difference_is_told() {
    let g = Ground::new();
    fs::write(g.dir().join("names.csv"), table(["red", "green", "violet"])).unwrap();
    let wide = table(["2,red", "1,green", "1,blue"]).replace(",class", ",e,class");
    fs::write(g.dir().join("wide.csv"), wide).unwrap();
    g.ok("prepare names.csv --split-at 57,72 -q -o names.safetensors");
    // The same classes, called in another order.
    let told = |stored: &Stored| {
        let mut about: Value = serde_json::from_str(stored.metadata("dlopt.dataset").unwrap()).unwrap();
        about["classes"] = serde_json::json!(["green", "red", "blue"]);
        vec![("dlopt.dataset".to_owned(), about.to_string())]
    };
    rewritten(&g.dir().join("d.safetensors"), &g.dir().join("order.safetensors"), told, |_| ());
    g.ok("prepare d.csv --split-at 57,72 --standardise none -q -o plain.safetensors");
    g.ok("prepare wide.csv --split-at 57,72 -q -o wide.safetensors");
    let x = "-o x.safetensors";
    let refused = |more: &str, code: i32, said: &[&str]| g.refused(&line(&format!("{more} {x}")), code, said);
    refused("--data names.safetensors", 1, &["t.safetensors", "violet", "blue", "the classes and their order"]);
    refused("--data order.safetensors", 1, &["(blue, green, red)", "(green, red, blue)", "t.safetensors"]);
    refused("--data plain.safetensors", 1, &["prepared differently", "--use-own-preprocessing"]);
    refused("--data wide.safetensors", 1, &["t.safetensors", "takes samples of"]);
    refused("--teacher d.safetensors", 1, &["d.safetensors"]);
    refused("--teacher nothing.safetensors", 1, &["nothing.safetensors"]);
    refused("--teacher t.safetensors=0", 2, &["the weights of the teachers"]);
    refused("--teacher t.safetensors=-1 --teacher t2.safetensors", 2, &["0 or more"]);
    refused("--teacher t.safetensors --teacher t2.safetensors --loss hint=fc1:1", 2, &["one teacher"]);
    g.refused("distill --student mlp --data d.safetensors", 2, &["--teacher"]);
    // Weights that are no numbers: the first sample of the split that is compared on.
    rewritten(
        &g.dir().join("t.safetensors"),
        &g.dir().join("nan.safetensors"),
        |stored| stored.metadata.clone(),
        |tensor| {
            if tensor.name.contains("fc2.bias") {
                tensor.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            }
        },
    );
    refused("--teacher nan.safetensors", 1, &["nan.safetensors", "NaN of sample 72", "dlopt verify"]);
    refused("--teacher nan.safetensors --test none", 1, &["nan.safetensors", "NaN of sample"]);
    g.refused("logits --teacher nan.safetensors --data d.safetensors -o x.safetensors -q", 1, &["NaN of sample 0"]);
}

#[test]
fn losses_that_mean_nothing_are_refused_and_what_there_is_is_named() {
    let g = Ground::new();
    let refused = |more: &str, said: &[&str]| g.refused(&line(&format!("{more} -o x.safetensors")), 2, said);
    refused("--loss kdd=1", &["no loss `kdd`", "did you mean `kd`"]);
    refused("--loss nonsense=1", &["no loss `nonsense`", "one of ce, sequence, kd"]);
    refused("--loss kd=1,temperature=0", &["temperature is 0", "more than 0"]);
    refused("--loss kd=1,temperature=-2", &["more than 0"]);
    refused("--loss kd=1,temperature=4..0", &["more than 0"]);
    refused("--loss kd=1,temperatur=4", &["did you mean `temperature`"]);
    refused("--loss kd=-1", &["0 or more"]);
    refused("--loss kd=nan", &["A..B"]);
    refused("--loss kd=0 --loss ce=0", &["the weights of all losses are 0", "kd=0.9"]);
    refused("--loss ce=1 --loss ce=2", &["twice"]);
    refused("--loss ce=x", &["--loss ce=x"]);
    refused("--loss ce=1,beam=2", &["no options"]);
    refused("--loss sequence=1,beam=0", &["beam, 1 to 1000"]);
    refused("--loss sequnce=1", &["did you mean `sequence`"]);
    refused("--loss hint=1", &["LAYER:WEIGHT"]);
    refused("--loss kd=fc1:1", &["takes no layer"]);
    refused("--loss hint=conv9/fc1:1", &["the student", "no layer `conv9`", "it has", "fc1"]);
    refused("--loss hint=fc1/conv9:1", &["t.safetensors", "no layer `conv9`", "it has", "fc1"]);
    refused("--loss hint=fc1:1,regressor=none", &["5 channels", "teacher's 23", "regressor=linear"]);
    refused("--loss hint=fc1:1,regressor=deep", &["linear or none"]);
    refused("--top 2", &["--top", "--cache-teacher"]);
    refused("--cache-dtype f32", &["--cache-teacher"]);
    refused("--start fresh", &["--start", "width=0.5"]);
    refused("--scheduled-sampling 0.5", &["--scheduled-sampling"]);
    refused("--label-smoothing 0.1 --unlabelled validation --validation none", &["--label-smoothing"]);
    refused("--freeze conv*", &["conv*"]);
    refused("--without-class violet", &["no class `violet`", "blue, green, red"]);
    refused("--device abacus", &["abacus"]);
    refused("--seeds 0", &["--seeds"]);
}

#[test]
fn students_and_files_that_do_not_fit_are_refused() {
    let g = Ground::new();
    fs::write(g.dir().join("pictures.toml"), "layers = [{ type = \"conv2d\", filters = 3, kernel = 3 }]").unwrap();
    fs::write(g.dir().join("three.csv"), "a,b,c,class\n1,2,3,x\n2,1,4,y\n3,4,1,x\n4,3,2,y\n").unwrap();
    g.ok("prepare three.csv --split-at 2 -q -o three.safetensors");
    g.ok("train --model net5.toml --data three.safetensors --epochs 1 -q -o three-m.safetensors");
    g.ok("logits --teacher t2.safetensors --data d.safetensors -q -o other.safetensors");
    g.ok("logits --teacher t.safetensors --data d.safetensors -q -o own.safetensors");
    let refused = |more: &str, code: i32, said: &[&str]| g.refused(&line(more), code, said);
    refused("--student three-m.safetensors -o x.safetensors", 1, &["three-m.safetensors", "takes samples of"]);
    refused("--student pictures.toml -o x.safetensors", 1, &["conv1"]);
    refused("--student nlp -o x.safetensors", 2, &["did you mean `mlp`"]);
    refused("--student widht=0.5 -o x.safetensors", 2, &["did you mean `width`"]);
    refused("--student width=2 -o x.safetensors", 2, &["`width` is 2"]);
    refused("--student hidden=4 -o x.safetensors", 2, &["hidden"]);
    refused("-o t.safetensors --force", 2, &["--output t.safetensors: is read"]);
    refused("--teacher t.safetensors=2 -o t.safetensors --force", 2, &["is read"]);
    refused("-o d.safetensors --force", 2, &["is read"]);
    refused("-o x.safetensors --plot x.safetensors", 2, &["--plot x.safetensors"]);
    refused("-o x.safetensors --cache-teacher x.safetensors", 2, &["x.safetensors"]);
    refused("-o t2.safetensors", 1, &["t2.safetensors: exists", "--force"]);
    refused("-o nowhere/x.safetensors", 1, &["nowhere"]);
    refused("-o x.safetensors --cache-teacher other.safetensors", 1, &["other.safetensors", "another teacher"]);
    refused("-o x.safetensors --cache-teacher t2.safetensors", 1, &["holds no answers of a teacher", "dlopt logits"]);
    refused("-o x.safetensors --cache-teacher own.safetensors --loss hint=fc1:1", 1, &["other layers"]);
    refused("-o x.safetensors --cache-teacher own.safetensors --split train+validation", 1, &["other samples"]);
    refused("-o x.safetensors --cache-teacher own.safetensors --top 2", 2, &["own.safetensors", "all logits"]);
    refused("-o x.safetensors --cache-teacher own.safetensors --cache-dtype f32", 2, &["16 bits"]);
    refused("-o x.safetensors --test tset", 1, &["did you mean `test`"]);
    // Damaged answers: the first half of the file, and a number of samples that cannot be.
    let bytes = g.bytes("own.safetensors");
    fs::write(g.dir().join("cut.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    refused("-o x.safetensors --cache-teacher cut.safetensors", 1, &["cut.safetensors"]);
    g.refused("logits --teacher t.safetensors --data d.safetensors -o own.safetensors", 1, &["exists", "--force"]);
    g.refused("logits --teacher t.safetensors --data d.safetensors -o t.safetensors --force", 2, &["is read"]);
    g.refused("logits --teacher t.safetensors --data d.safetensors --layer fc9 -o x.safetensors", 2, &["fc9", "fc1"]);
    assert!(!names_in(g.dir()).iter().any(|name| name.starts_with("x.safetensors")), "{:?}", names_in(g.dir()));
}
