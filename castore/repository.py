"""``Repository``: the rooms introduced to each other, one method a verb, nothing computed.

Imports are inside the methods, so that a command loads only what it uses: comparing two runs must start in a tenth of a
second, and numpy alone takes longer than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from castore.care.policy import GRACE_S, KEEP_LOG_S, KEEP_RECORDS_S, Policy
from castore.dataset import Datasets
from castore.errors import InvalidInputError
from castore.format.digest import Digest
from castore.store.addresses import nothing_called
from castore.store.move import Move, Why
from castore.store.refs import RefEntry, is_ref_name
from castore.store.run_origin import Origin as Origin
from castore.store.urls import open_backend
from castore.version import __version__

if TYPE_CHECKING:
    from castore.care.copy import Copied
    from castore.care.fsck import FsckResult
    from castore.care.gc import Collected
    from castore.care.usage import Usage
    from castore.export.layouts import ExportOptions
    from castore.export.olmo_core import Exported
    from castore.format.codec import Value
    from castore.ingest.caller_samples import ArraySpec
    from castore.ingest.defaults import TokenizeOptions
    from castore.ingest.estimate import Estimate
    from castore.ingest.import_folder import ImportResult
    from castore.ingest.import_zarr import GroupImport
    from castore.ingest.job import TokenizeResult
    from castore.ingest.mix import MixEntry
    from castore.ingest.run_writer import Progress
    from castore.ingest.sample_writer import SampleWriter
    from castore.ingest.write_job import WriteJob, WriteOptions, WriteResult
    from castore.read.columns import Columns

PathLike: TypeAlias = "str | os.PathLike[str]"


class Repository(Datasets):
    """An opened repository. It belongs to one thread at a time; another one opens it once more.

    What moves a name takes ``message`` and ``author`` for its log and the run record, by default none and this user; or
    an ``origin``, which has time and host too. ``force`` moves a protected name, and wants a message (``Why``). Where
    somebody else moved the name meanwhile, it raises ``ConflictError``; what was made is stored, and can be tagged.

    ``report`` is called with how much is done and how much there is, as far as that is known: tokens when importing and
    exporting, objects when copying and collecting, bytes when checking.
    """

    # ---- making datasets

    def tokenize(
        self,
        mix: Iterable[MixEntry],
        *,
        name: str,
        origin: Origin | None = None,
        message: str = "",
        author: str = "",
        force: bool = False,
        report: Callable[[Progress], None] = lambda progress: None,
        warn: Callable[[str], None] = lambda line: None,
        **options: Unpack[TokenizeOptions],
    ) -> TokenizeResult:
        """Turn conversations into a dataset, and let ``name`` mean it.

        What was tokenized before, by whomever and in whatever mix, is found and not tokenized again. A run that was
        interrupted goes on when it is called again.

        Args:
            mix: The sources in order, each a path, a pattern of paths, a URL, ``-`` for standard input or the name of a
                Hugging Face dataset, and an amount, of each file where there are several: a float is a share of
                the rows (1.0 all, 3.0 three times), an integer a count, a text either, as on the command line.
            name: Of the result.
            report: Called after every unit.
            warn: Called with one line for each thing that the user should know.
            **options: The tokenizer, and what else ``castore.ingest.defaults.TokenizeOptions`` has.

        Raises:
            InvalidInputError: The job or a source is wrong; what was tokenized is kept for the next run.
        """
        from castore.ingest import job as jobs
        from castore.store.units import UnitStore

        job = jobs.TokenizeJob.of(mix, **options)
        move = Move(self.backend, name, "tokenize", origin, message=message, author=author, force=force)
        units, recorded = UnitStore(self.backend), move.origin.recorded(__version__)
        done = jobs.tokenize(job, self.objects, units, recorded, report=report, warn=warn)
        move.publish(done.run)
        return done

    def estimate(
        self,
        mix: Iterable[MixEntry],
        *,
        report: Callable[[int, int], None] = lambda done, total: None,
        warn: Callable[[str], None] = lambda line: None,
        **options: Unpack[TokenizeOptions],
    ) -> Estimate:
        """What ``tokenize`` would come to, reckoned from a sample of the rows that are new; nothing is written.

        Raises:
            InvalidInputError: The job, a source, or a row of the sample is wrong.
        """
        from castore.ingest.estimate import estimate
        from castore.ingest.job import TokenizeJob

        return estimate(TokenizeJob.of(mix, **options), self.backend, Origin.here().time_s, report=report, warn=warn)

    def writer(
        self,
        name: str,
        *,
        recipe: Mapping[str, Value] | None = None,
        arrays: ArraySpec | None = None,
        sources: Sequence[str] = (),
        shuffle_seed: int | None = None,
        num_examples: int | None = None,
        resume_key: str | None = None,
        tokenizer: PathLike | None = None,
        origin: Origin | None = None,
        **why: Unpack[Why],
    ) -> SampleWriter:
        """A writer of samples; ``name`` means them when it is closed, as at the end of a ``with`` block.

        Args:
            name: Of the result.
            recipe: All that can change tokens: text, integers, lists and maps. Recorded, and compared by ``diff``.
            arrays: Extra arrays by name: ``(dtype, axis)``, such as ``("float32", "token")``.
            sources: Names of the sources in the order of their numbers; others are numbered as they appear.
            shuffle_seed: Seed of the recorded order; None for the order of writing.
            num_examples: Samples used of the order; None for all.
            resume_key: Any text that names this write. What is stored is recorded under it as the write goes on, and a
                writer that is opened with it again begins at ``position``.
            tokenizer: Folder of the tokenizer, kept beside the data so that it can be shown as text.

        Raises:
            InvalidInputError: A name, array or recipe that cannot be; or a protected name.
        """
        from castore.ingest.write_job import WriteJob

        folder = None if tokenizer is None else os.fspath(tokenizer)
        job = WriteJob(name, recipe or {}, arrays or {}, sources, shuffle_seed, num_examples, resume_key, folder)
        return self._writer(job, Move(self.backend, name, "write", origin, **why))

    def _writer(self, job: WriteJob, move: Move) -> SampleWriter:
        from castore.ingest.sample_writer import SampleWriter

        return SampleWriter(job, self.backend, self.objects, move.origin.recorded(__version__), move.publish)

    def write(self, samples: Iterable[Any], name: str, **options: Unpack[WriteOptions]) -> WriteResult:
        """Write what an iterator gives, and let ``name`` mean it.

        Args:
            samples: Each a ``(token_ids, labels_mask)`` tuple, token ids alone, or a mapping of what
                ``SampleWriter.append`` takes; also of ``input_ids``, ``labels`` with −100 where not trained on, and
                ``attention_mask``, as a dataset of Hugging Face gives them.
            name: Of the result.
            **options: As ``writer`` takes them. With a ``resume_key``, samples that an interrupted write has stored are
                taken from the iterator, compared and passed over.

        Raises:
            InvalidInputError: A sample cannot be; or is another than the interrupted write has in its place.
        """
        from castore.ingest.write_all import write_all

        return write_all(self.writer(name, **options), samples)

    def import_folder(
        self,
        path: PathLike,
        name: str,
        origin: Origin | None = None,
        *,
        shuffle_seed: int | None = None,
        like: str | Digest | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
        **why: Unpack[Why],
    ) -> ImportResult:
        """Let ``name`` mean an output directory of open-instruct, or what ``export`` has written for OLMo-core.

        Args:
            path: The directory.
            name: Of the result.
            shuffle_seed: Undo the shuffle of this seed, so that samples are stored in the order of the mix.
            like: Address of a dataset: documents that it holds are stored in its order, sharing its chunks.

        Raises:
            SourceError: The directory is incomplete or contradicts itself.
        """
        from castore.ingest.import_folder import Like, import_folder
        from castore.olmo.folder import OlmoCoreFolder
        from castore.store.imports import ImportStore

        move = Move(self.backend, name, f"import {os.fspath(path)}", origin, **why)
        done = import_folder(
            OlmoCoreFolder(os.fspath(path)),
            self.objects,
            ImportStore(self.backend),
            move.origin.recorded(__version__),
            shuffle_seed=shuffle_seed,
            like=None if like is None else Like.of(self.dataset(like)),
            report=report,
        )
        move.publish(done.run)
        return done

    def import_zarr(
        self,
        place: PathLike,
        name: str,
        origin: Origin | None = None,
        *,
        report: Callable[[int, int], None] = lambda done, total: None,
        **why: Unpack[Why],
    ) -> GroupImport:
        """Let ``name`` mean the samples of the zarr group at a path or URL.

        Raises:
            InvalidInputError: There is no group, or it has no samples, or arrays that contradict each other.
        """
        from castore.ingest.import_zarr import GroupSamples, write_group
        from castore.read.zarr_store import open_group

        url = os.fspath(place)
        move = Move(self.backend, name, f"import {url}", origin, **why)
        samples = GroupSamples(url, *open_group(url))
        return write_group(self._writer(samples.job(name), move), samples, report)

    # ---- what can be done with them

    def export(self, data: str | Digest | Columns, folder: PathLike, **options: Unpack[ExportOptions]) -> Exported:
        """Write a dataset, or what an address means, as files for a trainer; as ``Dataset.export``."""
        from castore.export.layouts import export_dataset

        return export_dataset(self.dataset(data) if isinstance(data, str | bytes) else data, folder, **options)

    def copy(
        self,
        address: str,
        to: Repository | PathLike,
        name: str | None = None,
        origin: Origin | None = None,
        *,
        create: bool = False,
        check: Callable[[Digest], None] = lambda root: None,
        report: Callable[[int, int], None] = lambda done, total: None,
        **why: Unpack[Why],
    ) -> Copied:
        """Make what ``address`` means durable in another repository, signed as here, and let ``name`` mean it there.

        Args:
            address: What to copy.
            to: The other repository, or its path or URL.
            name: The name there; the same by default.
            create: Make the other repository if there is nothing at the path or URL.
            check: Called with the root before anything is sent.

        Raises:
            InvalidInputError: The address is no name, and none was given.
            NotFoundError: There is no such address, or no other repository and ``create`` is False.
        """
        from castore.care.copy import copy_dataset
        from castore.store.signatures import SignatureStore

        if name is None and not is_ref_name(address):
            raise InvalidInputError(f"{address} is no name: say what to call it there")
        name = name or address
        target = self.resolve(address)
        other = to if isinstance(to, Repository) else Repository.open(to, create=create)
        move = Move(other.backend, name, f"copy {address} from {self.url}", origin, target=target, **why)
        root = self.dataset(target).root
        check(root)
        held = [digest for each in other.refs.names() if (digest := other.refs.current(each)) is not None]
        copied = copy_dataset(self.objects, other.objects, target, held, report=report)
        SignatureStore(self.backend).copy_to(SignatureStore(other.backend), name, root)
        copied.moved = move.expected != target
        if copied.moved:
            move.to(target)
        return copied

    # ---- names

    def log(self, name: str) -> list[RefEntry]:
        """What a name has meant, newest first: each with ``target``, ``time_s``, ``author`` and ``message``.

        Raises:
            NotFoundError: There never was such a name.
        """
        entries = self.refs.log(name)
        if not entries:
            raise nothing_called(name, self.refs, self.url)
        return entries

    def tag(self, address: str, name: str, origin: Origin | None = None, **why: Unpack[Why]) -> RefEntry:
        """Let ``name`` mean what ``address`` means.

        What no name means now may be about to be collected: all that it reaches is renewed first.

        Raises:
            NotFoundError: Some of it was collected already.
        """
        from castore.care.reach import renew_all

        target = self.resolve(address)
        move = Move(self.backend, name, f"tag {address}", origin, target=target, **why)
        if not is_ref_name(address) or self.refs.current(address) != target:
            self.backend.look_again()  # it may have been stored since this was opened
            renew_all(self.objects, target, address)
        return move.to(target)

    def remove(self, name: str, origin: Origin | None = None, **why: Unpack[Why]) -> RefEntry:
        """Let ``name`` mean nothing; its log stays, and the data as long as gc keeps what logs name.

        Raises:
            NotFoundError: There is no such name.
        """
        move = Move(self.backend, name, "rm", origin, **why)
        if move.expected is None:
            raise nothing_called(name, self.refs, self.url)
        return move.to(None)

    # ---- looking after the whole

    def gc(
        self,
        *,
        grace_s: float = GRACE_S,
        keep_log_s: float = KEEP_LOG_S,
        keep_records_s: float = KEEP_RECORDS_S,
        dry_run: bool = False,
        force: bool = False,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Collected:
        """Remove objects that nothing uses: no name, no log within its time, no record, no run under way.

        Args:
            grace_s, keep_log_s, keep_records_s: As of ``castore.care.policy.Policy``: how long what stays, in seconds.
            dry_run: Count, and remove nothing.
            force: Accept periods that are unsafe while others write.

        Raises:
            InvalidInputError: The periods are unsafe.
            CorruptionError: Something that is in use is damaged; nothing was removed.
        """
        from castore.care.gc import collect

        keep, tell = Policy(grace_s, keep_log_s, keep_records_s), lambda what, done, total: report(done, total)
        return collect(self.backend, keep, dry_run=dry_run, force=force, report=tell)

    def fsck(
        self,
        *,
        share: float = 1.0,
        repair: bool = False,
        repair_from: Repository | PathLike | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> FsckResult:
        """Read and hash everything, and check that it fits together: ``findings.clean`` says whether it does.

        Nothing is deleted, and nothing changed but what is put in place of what is damaged or missing.

        Args:
            share: Part of the chunks that is read, drawn at random.
            repair: Put right what can be without another repository: packs whose index is damaged, or of which every
                value is whole somewhere.
            repair_from: A repository from which what is damaged or missing is taken, verified; or its path or URL.
        """
        from castore.care.fsck import check

        if isinstance(repair_from, str | os.PathLike):  # it need not be healthy enough to be opened
            repair_from = Repository(open_backend(os.fspath(repair_from)))
        source = None if repair_from is None else repair_from.backend
        return check(self.backend, share=share, source=source, repair=repair, report=report)

    def du(self, *names: str, report: Callable[[int, int], None] = lambda done, total: None) -> Usage:
        """Count what names take, what they share, and what would be free without them; without names, of all.

        Raises:
            NotFoundError: There is no such name.
        """
        from castore.care.usage import usage

        return usage(self.backend, list(dict.fromkeys(names)), report=report)
