//! Every text format as a user gives it: what counts, what is skipped, what is bad, and what is refused.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use traces::{Format, Import, Options, Progress, TraceError, read, read_from};
use twin::Job;

const SWF: &str = "\
; Version: 2.2
;  Acknowledge: The Keeper
;               of this log
; MaxProcs: 128
; UnixStartTime: 749458803

    3   100   5     60   4   1.5  2048    8   90   -1  1  1 1 1 1 -1 -1 -1
    1   130  -1     30  -1    -1    -1    2   -1 1500  5  1 1 1 1 -1 -1 -1
    2   130   0     10   1    -1    -1   -1   -1   -1  0  1 1 1 1 -1 -1 -1
    4   140   0      0   1    -1    -1   -1   -1   -1  1  1 1 1 1 -1 -1 -1
    5   140   0     -1   1    -1    -1   -1   -1   -1  5  1 1 1 1 -1 -1 -1
    6   140   0     10  -1    -1    -1   -1   -1   -1  1  1 1 1 1 -1 -1 -1
    7   140   0     10   0    -1    -1    4   -1   -1  1  1 1 1 1 -1 -1 -1
    3   100   5     20   4    -1    -1    8   90   -1  2  1 1 1 1 -1 -1 -1
    3   160   5     40   4    -1    -1    8   90   -1  3  1 1 1 1 -1 -1 -1
    8   170   5     40   1    -1    -1    8   90   -1  2  1 1 1 1 -1 -1 -1
";

fn job(id: i64, submit_ms: u64, runtime_ms: u64, cores: u32, memory_mb: u64) -> Job {
    Job { id, submit_ms, runtime_ms, cores, memory_mb }
}

fn import(text: &str, format: Format) -> Result<Import, TraceError> {
    read_from(text.as_bytes(), format, &Options::default())
}

/// The import of a text of which every line may be bad.
fn lenient(text: &str, format: Format) -> Import {
    read_from(text.as_bytes(), format, &Options { bad_share_max: 1.0, ..Options::default() }).unwrap()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn reasons(import: &Import) -> Vec<(u64, &str)> {
    import.bad.first.iter().map(|bad| (bad.line_no, bad.reason.as_str())).collect()
}

#[test]
fn a_log_gives_what_ran_from_its_first_submission_on() {
    let import = import(SWF, Format::Swf).unwrap();
    let expected = [
        // 4 × 2048 KB; its two runs are not counted again
        job(3, 0, 60_000, 4, 8),
        // cancelled in its run; asked for 2 × 1500 KB
        job(1, 30_000, 30_000, 2, 3),
        job(2, 30_000, 10_000, 1, 0),
        // said to be one run of several, but there is no line for all of them
        job(8, 70_000, 40_000, 1, 0),
    ];
    assert_eq!(import.jobs, expected);
    let skipped = import.skipped;
    assert_eq!((skipped.no_runtime, skipped.no_cores, skipped.partial, skipped.total()), (2, 2, 2, 6));
    assert_eq!(import.bad.count, 0);
    assert_eq!(import.header("maxprocs"), Some("128"));
    assert_eq!(import.header("Acknowledge"), Some("The Keeper"));
    assert_eq!((import.headers[2].key.as_deref(), import.headers[2].value.as_str()), (None, "of this log"));
}

#[test]
fn bad_lines_are_counted_and_the_first_ones_kept() {
    let bad_time = SWF.lines().nth(7).unwrap().replace("130", "-9");
    let text = format!("{SWF}1 2 3\n{bad_time}\nx\ny\n");
    let import = lenient(&text, Format::Swf);
    assert_eq!((import.jobs.len(), import.bad.count), (4, 4));
    let expected = [
        (17, "3 fields where 18 are due"),
        (18, "the submit time -9 is not between 0 and 1e12"),
        (19, "field 1 is no number: \"x\""),
    ];
    assert_eq!(reasons(&import), expected);
    assert_eq!(import.bad.first[0].text, "1 2 3");
}

#[test]
fn too_many_bad_lines_are_refused_with_the_first_of_them() {
    let good = "1,2\n";
    let table = |good_lines: usize| format!("submit,runtime\n{}oops,2\n", good.repeat(good_lines));
    assert_eq!(import(&table(99), Format::Csv).unwrap().bad.count, 1);
    let error = import(&table(98), Format::Csv).unwrap_err().to_string();
    for part in ["1 of 99 lines", "line 100", "oops,2", "no number", "mend them"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_table_may_have_its_columns_in_any_order_and_by_other_names() {
    let text = "\u{feff}Note, Memory MB,CPUs,Duration,Arrival,job-id\n# a comment\n\"a, b\",1500.2,2,1.5,10,7\n\n,,,0.0001,12.25,x\n";
    let import = import(text, Format::Csv).unwrap();
    assert_eq!(import.jobs, [job(7, 0, 1500, 2, 1501), job(1, 2250, 1, 1, 0)]);
}

#[test]
fn a_table_may_count_in_milliseconds() {
    let import = import("submit_ms,runtime_ms\n1700000000123,250\n1700000000125,1\n", Format::Csv).unwrap();
    assert_eq!(import.jobs, [job(0, 0, 250, 1, 0), job(1, 2, 1, 1, 0)]);
}

#[test]
fn impossible_numbers_in_a_table_are_bad_and_empty_runs_are_skipped() {
    let head = "submit_s,runtime_s,cores,memory_mb\n5,1,1,1\n";
    for bad in [
        "NaN,1,1,1",
        "inf,1,1,1",
        "-1,1,1,1",
        "1,-2,1,1",
        "1,NaN,1,1",
        "1,1,-1,1",
        "1,1,1,-1",
        "1",
        ",1,1,1",
        "1e13,1,1,1",
    ] {
        let import = lenient(&format!("{head}{bad}\n"), Format::Csv);
        assert_eq!((import.jobs.len(), import.bad.count, import.bad.first[0].line_no), (1, 1, 3), "{bad}");
    }
    let import = import(&format!("{head}1,0,1,1\n1,1,0,1\n"), Format::Csv).unwrap();
    assert_eq!((import.jobs.len(), import.skipped.no_runtime, import.skipped.no_cores), (1, 1, 1));
    assert_eq!(import.jobs[0].submit_ms, 0, "what is skipped does not start the clock");
}

#[test]
fn a_table_without_its_columns_is_refused_with_their_names() {
    let error = import("when,runtime\n1,2\n", Format::Csv).unwrap_err().to_string();
    for part in ["submission", "submit_s", "arrival", "found: when, runtime"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let twice = import("submit,arrival,runtime\n1,1,2\n", Format::Csv).unwrap_err().to_string();
    assert!(twice.contains("submit and arrival say the same"), "{twice}");
}

#[test]
fn plain_objects_may_leave_out_what_has_a_default() {
    let text = r#"{"submit_s": 2.5, "runtime_s": 60}

{"submit_s": 1, "runtime_s": 0.5, "cores": 4, "memory_mb": 100, "id": -3, "user": "x"}
{"submit_s": 1}
{"submit_s": -1, "runtime_s": 1}
[1, 2]
"#;
    let import = lenient(text, Format::JsonLines);
    assert_eq!(import.jobs, [job(-3, 0, 500, 4, 100), job(0, 1500, 60_000, 1, 0)]);
    assert_eq!((import.bad.count, import.bad.first[0].line_no), (3, 4));
    assert!(import.bad.first[0].reason.contains("runtime_s"), "{:?}", import.bad.first[0]);
}

#[test]
fn records_of_the_task_table_are_known_by_their_fields() {
    let record = |id: &str, submitted_ms: u64, started_ms: Option<u64>, finished_ms: Option<u64>| {
        let record = contract::record::TaskRecord {
            pool: "p".into(),
            task_id: id.into(),
            submitted_ms,
            started_ms,
            finished_ms,
            cores: 2,
            memory_mb: 512,
            instance_id: None,
            attempts: 1,
        };
        serde_json::to_string(&record).unwrap() + "\n"
    };
    let start_ms = 1_700_000_000_000;
    let text = record("b", start_ms + 5000, Some(start_ms + 6000), Some(start_ms + 9000))
        + &record("17", start_ms, Some(start_ms), Some(start_ms))
        + &record("c", start_ms, Some(start_ms), None)
        + &record("d", start_ms, None, None)
        + &record("e", start_ms, Some(start_ms + 2), Some(start_ms));
    let import = lenient(&text, Format::JsonLines);
    assert_eq!(import.jobs, [job(17, 0, 1, 2, 512), job(0, 5000, 3000, 2, 512)]);
    assert_eq!((import.skipped.no_runtime, import.bad.count), (2, 1));
    assert!(import.bad.first[0].reason.contains("before it started"), "{:?}", import.bad.first);
}

#[test]
fn gzip_is_known_by_its_first_bytes_and_may_have_many_members() {
    let (head, tail) = SWF.split_at(SWF.len() / 2);
    let bytes = [gzip(head), gzip(tail)].concat();
    assert_eq!(read_from(&bytes[..], Format::Swf, &Options::default()).unwrap(), import(SWF, Format::Swf).unwrap());
    let cut = read_from(&bytes[..bytes.len() - 9], Format::Swf, &Options::default()).unwrap_err();
    assert!(matches!(cut, TraceError::Read(_)) && cut.source().is_some(), "{cut:?}");
}

#[test]
fn a_file_is_read_by_its_name_and_tells_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.SWF.gz");
    // what does not compress, so that there is progress to tell
    let noise: String = (0u64..60_000).map(|i| format!("; {}\n", i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    std::fs::write(&path, gzip(&(noise + SWF))).unwrap();
    let mut seen: Vec<Progress> = Vec::new();
    let import = read(&path, &Options::default(), &mut |p| seen.push(p)).unwrap();
    assert_eq!((import.jobs.len(), import.headers.len()), (4, 1000));
    let total = std::fs::metadata(&path).unwrap().len();
    assert!(seen.len() > 2 && seen.is_sorted_by_key(|p| p.bytes_read), "{seen:?}");
    assert_eq!(seen.last(), Some(&Progress { bytes_read: total, bytes_total: total }));
}

#[test]
fn a_name_that_tells_no_format_can_be_helped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.txt");
    std::fs::write(&path, "submit,runtime\n1,2\n").unwrap();
    let error = read(&path, &Options::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, TraceError::UnknownFormat { .. }), "{error}");
    let options = Options { format: Some(Format::Csv), ..Options::default() };
    assert_eq!(read(&path, &options, &mut |_| {}).unwrap().jobs.len(), 1);
    let missing = read(Path::new("/nonexistent.csv"), &Options::default(), &mut |_| {}).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent.csv"), "{missing}");
}

#[test]
fn formats_are_told_by_names() {
    let of = |name: &str| Format::of_name(Path::new(name));
    assert_eq!(of("a/b.swf"), Some(Format::Swf));
    assert_eq!(of("b.1.csv.gz"), Some(Format::Csv));
    assert_eq!((of("b.jsonl"), of("b.ndjson")), (Some(Format::JsonLines), Some(Format::JsonLines)));
    assert_eq!((of("b.parquet"), of("b.gz"), of("swf")), (Some(Format::Parquet), None, None));
}

#[test]
fn lines_and_records_without_an_end_do_not_fill_the_memory() {
    let long = "x".repeat(200_000);
    let import_of = lenient(&format!("{long}\n{SWF}"), Format::Swf);
    assert_eq!((import_of.jobs.len(), reasons(&import_of)), (4, vec![(1, "the line is too long")]));
    let error = import(&format!("submit,runtime\n1,2\n\"{long}"), Format::Csv).unwrap_err();
    assert!(matches!(error, TraceError::LongRecord { line_no: 3 }), "{error:?}");
}

#[test]
fn what_the_twin_cannot_hold_is_refused() {
    let two = "submit,runtime\n1,2\n2,2\n";
    let error = read_from(two.as_bytes(), Format::Csv, &Options { jobs_max: 1, ..Options::default() }).unwrap_err();
    assert!(matches!(error, TraceError::TooManyJobs { max: 1 }), "{error}");
    let clocks = import("submit,runtime\n1,2\n1700000000,2\n", Format::Csv).unwrap_err();
    assert!(matches!(clocks, TraceError::Span { .. }), "{clocks}");
    for nothing in ["", "submit,runtime\n", "submit,runtime\n1,0\n"] {
        let error = import(nothing, Format::Csv).unwrap_err();
        assert!(matches!(error, TraceError::Empty { bad: 0, .. }), "{error}");
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_without_the_feature_is_refused_with_the_mend() {
    let error = read(Path::new("tasks.parquet"), &Options::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("--features parquet"), "{error}");
}
