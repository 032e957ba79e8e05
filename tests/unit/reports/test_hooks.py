"""Hook URLs: which kind they are, which are refused, and that no secret is shown."""

import subprocess
import sys

import pytest

from controlplane.domain.reports import Report
from controlplane.reports import hooks
from controlplane.reports.posting import Poster, message
from controlplane.settings import ControlPlaneSettings
from service.settings import effective, read

ROBOT = "https://oapi.dingtalk.com/robot/send?access_token=s3cret"


def test_http_is_a_robot_and_every_other_scheme_is_apprise() -> None:
    found = hooks.parse(f"{ROBOT}; http://127.0.0.1:1/hook;json://user:pw@127.0.0.1:1/p ;", Poster())
    assert not found.unusable
    assert [hook.kind for hook in found.usable] == ["dingtalk", "dingtalk", "apprise"]
    assert [hook.name for hook in found.usable] == [
        "hook 1 (https://oapi.dingtalk.com/***)",
        "hook 2 (http://127.0.0.1:1/***)",
        "hook 3 (json://***)",
    ]
    assert hooks.parse("", Poster()) == hooks.parse(" ; ", Poster()) == hooks.Hooks([], [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("YOUR_REPORT_HOOKS", "it is not a URL"),
        ("oapi.dingtalk.com/robot/send?access_token=s3cret", "it is not a URL"),
        ("htps://oapi.dingtalk.com/robot/send?access_token=s3cret", "did you mean https://"),
        ("https://oapi.dingtalk.com/robot/send", "no access_token"),
        ("https://oapi.dingtalk.com/robot/send?access_token=", "no access_token"),
        ("http://oapi.dingtalk.com/robot/send?access_token=s3cret", "begins with https"),
        ("https://oapi.dingtalk.com/robots/send?access_token=s3cret", "begins with https"),
        ("https:///robot?s3cret", "names no host"),
        ("https://host:99999/s3cret", "port"),
        ("https://host:port/s3cret", "port"),
        ("https://host/a,https://host/s3cret", "separated by ;"),
        ("https://host/a https://host/s3cret", "separated by ;"),
        ("slakc://s3cret/b/c", "did you mean slack://"),
        ("slack://s3cret", "a part is missing or wrong"),
        ("https://[host/s3cret", "its host is neither a name"),
    ],
)
def test_a_hook_that_cannot_be_used_is_left_out_and_its_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("REPORT_HOOKS", f"{text}; http://127.0.0.1:1/hook")
    settings = read(ControlPlaneSettings)
    (line,) = settings.complaints()
    assert line.startswith("REPORT_HOOKS=********: hook 1 (")
    assert " gets no reports: " in line
    assert problem in line
    assert "s3cret" not in line
    found = hooks.parse(settings.report_hooks.get_secret_value(), Poster())
    assert [hook.name for hook in found.usable] == ["hook 2 (http://127.0.0.1:1/***)"]


def test_a_hook_is_called_once_and_of_too_many_only_the_first() -> None:
    found = hooks.parse(f"{ROBOT};{ROBOT}", Poster())
    assert [len(found.usable), *(unusable.problem for unusable in found.unusable)] == [
        1,
        "it is named before, and would get every report twice",
    ]
    found = hooks.parse(";".join(f"http://h/{n}" for n in range(34)), Poster())
    assert len(found.usable) == 32
    assert [unusable.problem for unusable in found.unusable] == ["there can be no more than 32 hooks"] * 2


def test_only_http_hooks_have_destinations() -> None:
    found = hooks.destinations("hook", hooks.urls(f"{ROBOT}; slack://a/b/c; nothing; http://[::1]:81/x"))
    assert [(each.name, each.url) for each in found if not each.problem] == [
        ("hook 1 (https://oapi.dingtalk.com/***)", ROBOT),
        ("hook 4 (http://[::1]:81/***)", "http://[::1]:81/x"),
    ]


def test_secrets_are_not_among_the_effective_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_HOOKS", ROBOT)
    monkeypatch.setenv("REPORT_TOKEN", "s3cret")
    assert "s3cret" not in str(effective(read(ControlPlaneSettings)))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:pw@host:1/path?token", "http://host:1/***"),
        ("http://host?token", "http://host/***"),
        ("slack://token/a", "slack://***"),
        ("token", "***"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert hooks.masked(url) == shown


def test_apprise_is_imported_only_for_a_hook_that_needs_it() -> None:
    program = (
        "import sys, controlplane.__main__\n"
        "from controlplane.reports import hooks\n"
        "from controlplane.reports.posting import Poster\n"
        "hooks.parse('http://127.0.0.1:1/', Poster())\n"
        "assert 'apprise' not in sys.modules\n"
        "hooks.parse('json://127.0.0.1:1/', Poster())\n"
        "assert 'apprise' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_robots_message_is_the_originals() -> None:
    report = Report("k", "vpod_deploy", "ContainerStart", "fail", "boom", "01002", {"b": "2", "a": "1"}, "t-1", 5)
    assert message(report) == {
        "msgtype": "markdown",
        "markdown": {
            "title": "Log Notification",
            "text": "## MC告警\n\n- **Trace ID**: t-1\n- **工单类型**: vpod_deploy\n- **节点**: ContainerStart\n"
            "- **结果**: fail\n- **失败信息**: boom\n- **错误代码**: 01002\n- **部署信息**: [a: 1\nb: 2\n]",
        },
    }


def test_a_long_message_is_cut_to_what_a_robot_takes() -> None:
    report = Report("k", "s", "e", "fail", "长" * 30_000, "01002", {"x": "标" * 30_000})
    markdown = message(report)["markdown"]
    assert isinstance(markdown, dict)
    assert len(markdown["text"].encode()) < 20_000
    assert "- **错误代码**: 01002" in markdown["text"]
