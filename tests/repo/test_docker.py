"""The images: what is installed in which layer, and how they start."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from house import ALL_PROJECTS, ROOT, text

TORCH_PROJECTS = [p for p in ALL_PROJECTS if p != "ieg_fsr"]
LAYERS = ("uv.txt", "large.txt", "rest.txt")


def dockerfile(project: str) -> str:
    return text(Path(f"docker/{project}.Dockerfile"))


def entries(lock: str) -> dict[str, str]:
    """What a lock says of each package: version, marker, hashes, and who asked for it."""
    found = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    return {entry.split("==")[0]: entry for entry in found if "==" in entry}


def layers(project: str, folder: Path, variant: str = "gpu") -> dict[str, dict[str, str]]:
    script, locks = ROOT / "docker/layers.awk", ("docker", project)
    files = [ROOT / name / "requirements.txt" for name in locks]
    command = ["awk", "-v", f"variant={variant}", "-f", script, *files]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return {name: entries((folder / name).read_text()) for name in LAYERS}


@pytest.mark.parametrize("project", ALL_PROJECTS)
def test_an_image_holds_all_that_is_locked_but_what_only_tests_need(project, tmp_path):
    locked = entries(text(Path(project, "requirements.txt")))
    found = layers(project, tmp_path)
    left_out = locked.keys() - found["large.txt"].keys() - found["rest.txt"].keys()
    assert left_out == {"coverage", "iniconfig", "pluggy", "pytest", "pytest-cov"}
    assert found["uv.txt"].keys() == {"uv"}
    asked_by = re.findall(
        r"^ +# +(?:via )?(?:-r )?(\S+)$", "".join(locked[p] for p in left_out), re.MULTILINE
    )
    assert {*asked_by} - {"via"} <= {*left_out, f"{project}/requirements.in"}


def test_the_torch_images_share_the_layer_of_torch(tmp_path):
    """Docker keeps a layer once where the instructions up to it and the files they copy agree."""
    parts, locks = set(), set()
    for project in TORCH_PROJECTS:
        layers(project, tmp_path)
        locks.add((tmp_path / "large.txt").read_bytes())
        image = dockerfile(project).split("\nFROM ${BASE}\n")[1]
        parts.add(re.split(r"^(?:#.*\n)*COPY .*rest.txt", image, flags=re.MULTILINE)[0])
    assert len(locks) == 1, "these locks differ: make lock, or leave it to rest.txt"
    assert len(parts) == 1, "the Dockerfiles differ before the layer of torch"
    assert "large.txt" in parts.pop()


def test_the_variant_for_a_cpu_is_the_same_version_without_cuda(tmp_path):
    gpu, cpu = (layers("ieg_fsr", tmp_path, variant) for variant in ("gpu", "cpu"))
    assert gpu["rest.txt"] == cpu["rest.txt"]
    assert {n for n in cpu["large.txt"] if n not in gpu["large.txt"]} == {"tensorflow-cpu"}
    assert not [name for name in cpu["large.txt"] if name.startswith(("nvidia-", "tensorflow="))]
    version = re.compile(r"^tensorflow(?:-cpu)?==(\S+)", re.MULTILINE)
    assert len({version.search("".join(v["large.txt"].values()))[1] for v in (gpu, cpu)}) == 1


def test_a_misspelt_variant_is_refused(tmp_path):
    command = ["awk", "-v", "variant=cup", "-f", ROOT / "docker/layers.awk", os.devnull]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, "VARIANT=cup: choose gpu or cpu\n")


def test_compose_has_every_project_and_pins_the_base():
    compose = yaml.safe_load(text(Path("docker/compose.yaml")))
    services = compose["services"]
    assert services.keys() == {*ALL_PROJECTS, "tensorboard"}
    for project in ALL_PROJECTS:
        build = services[project]["build"]
        assert build["dockerfile"] == f"docker/{project}.Dockerfile"
        tag, digest = build["args"]["BASE"].split("@")
        assert f"ARG BASE={tag}\n" in dockerfile(project)
        assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
        asked = set(re.findall(r"^ARG (\w+)", dockerfile(project), re.MULTILINE))
        assert asked == build["args"].keys()
    assert yaml.safe_load(text(Path("docker/gpu.yaml")))["services"].keys() == {*ALL_PROJECTS}


def start(*words: object, outputs: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OUTPUTS": f"{outputs} {outputs}/saved"}
    command = [ROOT / "docker/entrypoint.sh", *words]
    return subprocess.run(
        command, cwd=outputs.parent, env=environment, capture_output=True, text=True
    )


def test_an_image_starts_scripts_modules_recipes_and_any_program(tmp_path):
    (tmp_path / "a.py").write_text("import sys; print('python', *sys.argv[1:])")
    (tmp_path / "a.sh").write_text('echo "bash $BASH_VERSION" | cut -c1-4; echo "$@"')
    runs = tmp_path / "runs"
    for words, printed in (
        (("a.py", "--r", "0.5"), "python --r 0.5\n"),
        (("-m", "a", "b c"), "python b c\n"),
        (("a.sh", "d"), "bash\nd\n"),
        (("/bin/bash", "-c", f"cd {tmp_path} && echo e"), "e\n"),
    ):
        run = start(*words, outputs=runs)
        assert (run.returncode, run.stdout) == (0, printed), run.stderr
    assert (runs / "saved").is_dir()


def test_a_mount_that_cannot_be_written_is_told_with_what_mends_it(tmp_path):
    runs = tmp_path / "runs"
    runs.write_text("")  # root, as who tests may run, could write into any folder
    run = start("a.py", outputs=runs)
    assert run.returncode == 1
    for part in (f"{runs} is not writable by user {os.getuid()}", "mkdir -p runs", "--user"):
        assert part in run.stderr
