"""Large libraries are imported with the garbage collector off, and it is on again afterwards."""

import gc

import pytest

from framework.imports import import_without_gc


@pytest.fixture(autouse=True)
def unfrozen():
    yield
    gc.unfreeze()


def test_the_collector_sees_nothing_of_what_a_module_makes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "large_library.py").write_text(
        "import gc\nwas_enabled = gc.isenabled()\nobjects = [[] for _ in range(99)]"
    )
    import_without_gc("large_library")
    import large_library

    assert not large_library.was_enabled and gc.isenabled()
    assert gc.get_freeze_count() > 99 and not any(object is large_library.objects for object in gc.get_objects())


def test_a_module_that_is_loaded_freezes_nothing():
    import_without_gc("gc")
    assert gc.get_freeze_count() == 0


def test_the_collector_is_back_at_work_where_a_module_cannot_be_loaded():
    with pytest.raises(ModuleNotFoundError):
        import_without_gc("no_such_library")
    assert gc.isenabled()
