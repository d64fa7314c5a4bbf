"""What surrounds a job's work."""

from onlybn.jobs import last_lines


def test_the_reason_is_the_last_line_of_a_failed_jobs_own_log_here_and_on_a_cluster(tmp_path):
    for name, text in (("a", "first\nerror: a\n\n"), ("b", "error: b"), ("slurm", "it failed")):
        (tmp_path / f"{name}.log").write_text(text)
    end = "(check log file(s) for error details)"
    told = (
        f"    log: {tmp_path}/a.log {end}\n"
        f"    log: {tmp_path}/b.log, {tmp_path}/slurm.log {end}\n"
        f"    log: {tmp_path}/gone.log, {tmp_path}/slurm.log {end}\n"
        f"    log: {tmp_path}/a.log {end}\n"
        f"    log: {tmp_path}/slurm.log\n"
    )
    (tmp_path / "snakemake.log").write_text(told)
    assert last_lines(tmp_path / "snakemake.log") == ["error: a", "error: b"]
