"""Whose rights a file is read with, and how much is read."""

import os
import pwd
from pathlib import Path

import pytest

from emperor.config import ConfigError, VassalConfig, files, load_vassal, rights
from emperor.config.entries import Owner
from emperor.config.files import Files
from emperor.config.layers import Layers
from emperor.config.problems import Mistake
from tests.reach import reachable

ALICE = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which alone has rights to lend")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory that another user can reach."""
    reachable(tmp_path)
    return tmp_path


def vassal(directory: Path, text: str, uid: int = 0) -> VassalConfig:
    path = directory / "app.ini"
    own = f"uid = {uid}\ngid = {uid}\n" if uid else ""
    path.write_text(f"[uwsgi]\nmodule = app\n{own}{text}\n")
    if os.geteuid() == 0:
        os.chown(path, uid, uid)
    return load_vassal(path, directory=directory, environ={"SECRET": "s", "LC_ALL": "C"})


def refusal(directory: Path, text: str, uid: int = 0) -> str:
    with pytest.raises(ConfigError) as caught:
        vassal(directory, text, uid)
    return str(caught.value)


@as_root
def test_what_a_tenants_file_names_is_read_with_the_tenants_rights(shared: Path) -> None:
    secret, public = shared / "secret", shared / "public"
    secret.write_text("s3cret\n")
    secret.chmod(0o640)  # of the group root, too, which the emperor is in and the tenant is not
    public.write_text("hello\n")
    public.chmod(0o644)
    assert vassal(shared, f"env = A=@({secret})").app.env == (("A", "s3cret"),)
    assert f"{secret} cannot be read as user {ALICE}" in refusal(shared, f"env = A=@({secret})", ALICE)
    assert vassal(shared, f"env = A=@({public})", ALICE).app.env == (("A", "hello"),)
    assert vassal(shared, f"if-exists = {secret}\nenv = A=1\nendif", ALICE).app.env == ()
    assert vassal(shared, f"if-exists = {public}\nenv = A=1\nendif", ALICE).app.env == (("A", "1"),)
    own = shared / "own"
    own.write_text("mine")
    os.chown(own, ALICE, ALICE)
    own.chmod(0o600)
    assert vassal(shared, f"env = A=@({own})", ALICE).app.env == (("A", "mine"),)


@as_root
def test_what_a_tenants_file_includes_fetches_nothing_for_the_tenant(shared: Path) -> None:
    secret, more = shared / "secret", shared / "more.ini"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    more.write_text(f"[uwsgi]\nenv = A=@({secret})\nenv = B=$(SECRET)\n")
    more.chmod(0o644)
    assert dict(vassal(shared, f"include = {more}").app.env) == {"A": "s3cret", "B": "s"}
    assert "cannot be read as user" in refusal(shared, f"include = {more}", ALICE)
    more.write_text("[uwsgi]\nenv = B=$(SECRET)\nenv = C=$(LC_ALL)\n")
    found = vassal(shared, f"inherit = {more}", ALICE)
    assert dict(found.app.env) == {"B": "", "C": "C"}
    assert "$(SECRET) is kept from a file of another user's" in str(found.warnings[0])


@as_root
def test_a_tenants_file_names_no_other_user(shared: Path) -> None:
    """The last word on `uid` counts, and what root's file includes may have it."""
    included = shared / "tenants.ini"
    for line, wrong in (
        ("uid = 0", f"uid: 0 is another user than {ALICE}, whose file says so"),
        ("uid = root", f"uid: root is another user than {ALICE}"),
        ("gid = 0", f"gid: 0 is no group of user {ALICE}"),
        ("gid = root", f"gid: root is no group of user {ALICE}"),
    ):
        assert f":5: {wrong}" in refusal(shared, line, ALICE)
        included.write_text(f"[uwsgi]\n{line}\n")
        os.chown(included, ALICE, ALICE)
        assert f"{included}:2: {wrong}" in refusal(shared, f"uid = 1\ngid = 1\ninclude = {included}")
        os.chown(included, 0, 0)
        assert vassal(shared, f"include = {included}").uid in (0, None)
    included.write_text(f"[uwsgi]\nuid = {ALICE}\ngid = {ALICE}\n")
    os.chown(included, ALICE, ALICE)
    found = vassal(shared, f"uid = 1\ngid = 1\ninclude = {included}")
    assert (found.uid, found.gid) == (ALICE, ALICE)
    daemon = pwd.getpwnam("daemon")
    os.chown(included, daemon.pw_uid, 0)
    included.write_text("[uwsgi]\nuid = daemon\ngid = daemon\n")
    assert vassal(shared, f"include = {included}").uid == daemon.pw_uid


@as_root
def test_a_tenants_variable_in_roots_line_names_no_other_user(shared: Path) -> None:
    included = shared / "tenants.ini"
    included.write_text("[uwsgi]\nwho = 0\nwhom = %(who)\n")
    for name in ("who", "whom", "through"):
        text = f"include = {included}\nthrough = %(whom)\nuid = %({name})\ngid = 0\nenv = A=%(through)"
        os.chown(included, ALICE, ALICE)
        assert f"uid: 0 is another user than {ALICE}" in refusal(shared, text)
        os.chown(included, 0, 0)
        assert vassal(shared, text).uid == 0


@as_root
def test_a_tenants_own_file_does_not_run_as_root_for_want_of_a_word(shared: Path) -> None:
    path = shared / "app.ini"
    path.write_text("[uwsgi]\nmodule = app\n")
    os.chown(path, ALICE, ALICE)
    with pytest.raises(
        ConfigError, match=f"uid: would run as root, .*belongs to user {ALICE} .set uid = {ALICE}"
    ):
        load_vassal(path, directory=shared, environ={})
    layers = Layers(settings=(("uid", "root"),))
    assert load_vassal(path, directory=shared, environ={}, layers=layers).uid == 0, "the operator's own word"
    os.chown(path, 0, 0)
    assert load_vassal(path, directory=shared, environ={}).uid is None


@as_root
def test_a_tenants_directory_is_not_listed_for_another(shared: Path) -> None:
    private = shared / "private"
    private.mkdir(mode=0o700)
    (private / "x.txt").write_text("")
    text = f"for-glob = {private}/*.txt\nenv = A=%(_)\nendfor"
    assert vassal(shared, text).app.env == (("A", f"{private}/x.txt"),)
    assert vassal(shared, text, ALICE).app.env == ()


@as_root
@pytest.mark.parametrize(
    "path", ["/proc/self/environ", "/proc/1/environ", "/proc/self/fd/0", "/proc/self/cwd/secret"]
)
def test_a_tenant_does_not_look_at_the_emperor_through_proc(shared: Path, path: str) -> None:
    assert "cannot be read as user" in refusal(shared, f"env = A=@({path})", ALICE)
    (shared / "link").unlink(missing_ok=True)
    (shared / "link").symlink_to(path)
    assert "cannot be read as user" in refusal(shared, f"env = A=@({shared}/link)", ALICE)


@as_root
def test_the_emperor_is_itself_again_afterwards(shared: Path) -> None:
    before = os.getgroups()
    secret = shared / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with rights.as_owner(Owner(ALICE)), pytest.raises(PermissionError):
        secret.read_text()
    assert secret.read_text() == "x"
    assert os.getgroups() == before
    refusal(shared, f"env = A=@({secret})", ALICE)
    assert secret.read_text() == "x"


def test_an_emperor_that_is_not_root_has_nothing_to_lend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert rights.owner_of(0) is rights.owner_of(1000) is rights.owner_of(ALICE) is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert rights.owner_of(0) is None
    assert rights.owner_of(ALICE) == Owner(ALICE)


def test_what_is_read_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x" * 600)
    monkeypatch.setattr(files, "_MOST_BYTES", 1000)
    one = Files()
    one.read(str(tmp_path / "a"))
    with pytest.raises(Mistake, match="is too much: at most 1000 bytes"):
        one.read(str(tmp_path / "a"))


def test_looking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (tmp_path / f"f{number}").write_text("")
    monkeypatch.setattr(files, "_MOST_LOOKED_AT", 50)
    one = Files()
    assert len(one.glob("*", str(tmp_path), None)) == 30
    with pytest.raises(Mistake, match="more than 50 names to look at"):
        one.glob("*", str(tmp_path), None)


def test_patterns(tmp_path: Path) -> None:
    for name in ("a/x.ini", "a/y.txt", "b/x.ini", "b/.h.ini", "c"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    one, base = Files(), str(tmp_path)
    assert one.glob("*/*.ini", base, None) == ["a/x.ini", "b/x.ini"]
    assert one.glob("[ab]/x.ini", base, None) == ["a/x.ini", "b/x.ini"]
    assert one.glob("a", base, None) == ["a/"]
    assert one.glob(f"{base}/*/x.???", "/nowhere", None) == [f"{base}/a/x.ini", f"{base}/b/x.ini"]
    assert one.glob("nope/*", base, None) == one.glob("c/*", base, None) == []
    assert one.glob("b/.*", base, None) == ["b/.h.ini"]


@as_root
def test_what_an_app_is_made_of_is_looked_at_as_the_tenant(shared: Path) -> None:
    """What lies in another's directory is not told: neither its names nor whether there is such a one."""
    private = shared / "private"
    (private / "lib-a").mkdir(parents=True)
    (private / "file.py").write_text("")
    private.chmod(0o700)
    assert vassal(shared, f"pythonpath = {private}/lib-*").app.pythonpath == (f"{private}/lib-a",)
    found = vassal(shared, f"pythonpath = {private}/lib-*", ALICE)
    assert found.app.pythonpath == ()
    assert any("there is no" in str(each) for each in found.warnings)
    for key in ("chdir", "virtualenv", "wsgi-file"):
        texts = {
            refusal(shared, f"{key} = {private}/{name}", ALICE).replace(name, "X")
            for name in ("lib-a", "file.py", "nothing")
        }
        assert len(texts) == 1 and "cannot be looked at: Permission denied" in texts.pop()
    os.chown(private, ALICE, ALICE)
    assert vassal(shared, f"pythonpath = {private}/lib-*", ALICE).app.pythonpath == (f"{private}/lib-a",)


def test_patterns_of_paths_count_with_all_else_that_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (tmp_path / f"lib-{number}").mkdir()
    monkeypatch.setattr(files, "_MOST_LOOKED_AT", 50)
    assert len(vassal(tmp_path, f"pythonpath = {tmp_path}/lib-*").app.pythonpath) == 30
    said = refusal(tmp_path, f"pythonpath = {tmp_path}/lib-*\npythonpath = {tmp_path}/*")
    assert "pythonpath: more than 50 names to look at" in said
