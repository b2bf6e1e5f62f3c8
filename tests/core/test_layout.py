"""Where things lie on the instance."""

from hypothesis import given
from hypothesis import strategies as st

from towline.core.instance import run_id_from
from towline.core.layout import RemoteLayout, session_name

run_ids = st.binary(min_size=8, max_size=8).map(run_id_from)


@given(run_ids)
def test_everything_of_a_run_lies_in_its_one_folder(run_id):
    layout = RemoteLayout("/home/ubuntu", run_id)
    assert layout.root == f"/home/ubuntu/towline/{run_id}"
    inside = [layout.dataset, layout.code, layout.output, layout.log, layout.control]
    assert all(path.startswith(layout.root + "/") for path in inside)
    assert layout.onboard.startswith(layout.control + "/")
    assert len({*inside, layout.onboard}) == 6


def test_the_layout_is_the_one_users_were_promised():
    layout = RemoteLayout("/root", run_id_from(b"abcdefgh"))
    names = [
        p.removeprefix(layout.root + "/") for p in (layout.dataset, layout.code, layout.output)
    ]
    assert names == ["dataset", "code", "output"]
    assert layout.log == layout.root + "/training.log"


@given(run_ids, run_ids)
def test_two_runs_share_neither_folder_nor_session(one, other):
    if one != other:
        assert RemoteLayout("/root", one).root != RemoteLayout("/root", other).root
        assert session_name(one) != session_name(other)
    assert session_name(one) == f"towline-{one}"
