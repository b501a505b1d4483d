//! `cargo xtask test`: every check and every test of the repository, counted.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::parts::Part;
use crate::{generate, layers, repository};

/// What passed and what failed, over checks and tests alike.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Count {
    passed: u64,
    failed: u64,
}

/// Runs everything, then prints `N passed, N failed` as the last line.
pub(crate) fn run(without: &[Part]) -> ExitCode {
    let mut total = Count::default();
    let mut absent: Vec<Part> = without.to_vec();
    for part in Part::ALL {
        if without.contains(&part) {
            println!("--- without {}, as asked", part.name());
        } else if let Err(error) = part.provide() {
            println!("--- part {} is missing: {error:#}", part.name());
            absent.push(part);
            total.failed += 1;
        }
    }
    let mut failures: Vec<&str> = Vec::new();
    let mut check = |name: &'static str, result: Result<Count>| match result {
        Ok(count) => {
            total.passed += count.passed;
            total.failed += count.failed;
            if count.failed > 0 {
                failures.push(name);
            }
        }
        Err(error) => {
            println!("--- {name}: {error:#}");
            total.failed += 1;
            failures.push(name);
        }
    };
    let one = |()| Count {
        passed: 1,
        failed: 0,
    };
    check(
        "format",
        step("format", || cargo(&["fmt", "--all", "--check"])).map(one),
    );
    check("layers", step("layers", layers::check).map(one));
    check(
        "generated code",
        step("generated code", generate::check).map(one),
    );
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ];
    check("clippy", step("clippy", || cargo(&clippy)).map(one));
    check("tests", step("tests", || tests(&absent)));
    check("doc tests", step("doc tests", doc_tests));
    if !failures.is_empty() {
        println!("failed: {}", failures.join(", "));
    }
    for part in Part::ALL
        .iter()
        .filter(|part| absent.contains(part) && !without.contains(part))
    {
        println!(
            "failed: part {} is missing, its tests did not run",
            part.name()
        );
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn step<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("--- {name}");
    let start = Instant::now();
    let result = run();
    println!("--- {name}: {:.0} s", start.elapsed().as_secs_f64());
    result
}

/// Runs all tests but those of absent parts, with nextest where it is installed.
fn tests(absent: &[Part]) -> Result<Count> {
    let prefixes: Vec<&str> = absent.iter().map(|part| part.test_prefix()).collect();
    let nextest = Command::new("cargo")
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut arguments: Vec<String> = Vec::new();
    if nextest {
        arguments.extend(
            [
                "nextest",
                "run",
                "--workspace",
                "--locked",
                "--no-fail-fast",
                "--profile",
                "ci",
                "--test-threads",
            ]
            .map(str::to_owned),
        );
        // Tests of whole processes run one at a time and mostly wait: one thread more than processors.
        let processors = thread::available_parallelism().map_or(1, usize::from);
        arguments.push((processors + 1).to_string());
        if !prefixes.is_empty() {
            let names = prefixes.join("|");
            arguments.extend(["-E".to_owned(), format!("not test(/(^|::)({names})/)")]);
        }
    } else {
        println!("cargo-nextest is not installed: cargo test runs instead, without time limits");
        let cargo_test = [
            "test",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--all-targets",
        ];
        arguments.extend(cargo_test.map(str::to_owned));
        arguments.push("--".to_owned());
        arguments.extend(
            prefixes
                .iter()
                .flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]),
        );
    }
    counted(&arguments)
}

fn doc_tests() -> Result<Count> {
    counted(&["test", "--workspace", "--locked", "--doc", "--no-fail-fast"].map(str::to_owned))
}

/// Runs cargo, passes its output on, and adds up the counts in it.
fn counted(arguments: &[String]) -> Result<Count> {
    let mut child = Command::new("cargo")
        .args(arguments)
        .current_dir(repository::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting cargo")?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let other = thread::spawn(move || pass_on(stderr));
    let mut count = pass_on(stdout);
    let more = other
        .join()
        .map_err(|_| anyhow::anyhow!("the reader of stderr ended early"))?;
    count.passed += more.passed;
    count.failed += more.failed;
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        bail!(
            "cargo {} ended with {status} and named no failed test",
            arguments.join(" ")
        );
    }
    Ok(count)
}

fn pass_on(stream: impl std::io::Read) -> Count {
    let mut count = Count::default();
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(found) = count_in(&line) {
            count.passed += found.passed;
            count.failed += found.failed;
        }
    }
    count
}

/// Reads the closing line of nextest (`Summary [ 1s] 3 tests run: 2 passed (1 slow), 1 timed out`)
/// or of the test harness (`test result: ok. 3 passed; 0 failed; ...`). Harness lines that nextest
/// shows again, indented, below a failed test are counted in its own closing line.
fn count_in(line: &str) -> Option<Count> {
    let nextest = line.trim_start().starts_with("Summary [") && line.contains(" run: ");
    let tail = match line.strip_prefix("test result:") {
        Some(rest) => rest.split_once(". ")?.1,
        None if nextest => line.split_once(" run: ")?.1,
        None => return None,
    };
    let mut count = Count::default();
    for item in tail.split([',', ';']) {
        let mut words = item.split_whitespace();
        let (Some(number), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match kind {
            "passed" => count.passed += number,
            // nextest: failed, exec failed, timed out.
            "failed" | "exec" | "timed" => count.failed += number,
            _ => {}
        }
    }
    Some(count)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("cargo");
    let status = command
        .args(arguments)
        .current_dir(repository::root())
        .stdin(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        bail!("cargo {}: {status}", arguments.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners_are_counted() {
        let count = |line| count_in(line).map(|count| (count.passed, count.failed));
        assert_eq!(
            count("     Summary [   6.541s] 63 tests run: 52 passed, 11 failed, 0 skipped"),
            Some((52, 11))
        );
        assert_eq!(
            count(
                "Summary [ 1.0s] 4 tests run: 2 passed (1 slow, 1 leaky), 1 failed, 1 timed out, 9 skipped"
            ),
            Some((2, 2))
        );
        assert_eq!(
            count("Summary [ 1.0s] 1 test run: 1 passed, 0 skipped"),
            Some((1, 0))
        );
        assert_eq!(
            count("test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out"),
            Some((3, 1))
        );
        assert_eq!(
            count("    test result: FAILED. 0 passed; 1 failed; 0 ignored"),
            None
        );
        assert_eq!(count("test result of nothing"), None);
        assert_eq!(count("running 3 tests"), None);
    }
}
