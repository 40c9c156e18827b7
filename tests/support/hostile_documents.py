"""Clinical documents with which XML parsers were turned against their owners, or two readers into two opinions.

Each has a twin, the smallest difference away: what is refused has one that passes, what is read right has one that
says the same of another patient and is refused.
"""

from dataclasses import dataclass

from tests.support.documents import OID, document
from tests.support.world import SECRET

_XINCLUDE = "http://www.w3.org/2001/XInclude"
_MARK = f"<structuredBody><component><section><text>{SECRET}</text></section></component></structuredBody>"
_BEGIN = '<?xml version="1.0" encoding="{}"?>'
_TARGET = '<recordTarget><patientRole><id root="{}" extension="{}"/></patientRole></recordTarget>'
_LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A document that is about to be refused, and the one next to it that passes."""

    refused: bytes
    passes: bytes


def _of(patient: str = "A", ids: str = "@", **more: str) -> bytes:
    one = f'<id root="{OID}" extension="mrn-{patient}"/>'
    return document(ids=ids.replace("@", one).replace("~", f"mrn-{patient}"), **more)


def _hidden(**more: str) -> bytes:
    """Of patient A, with words that do not go out where the document is refused."""
    return _of(**{"body": _MARK, **more})


def _read(ids: str, **more: str) -> Pair:
    """The same words of B and of A."""
    return Pair(_of("B", ids, body=_MARK, **more), _of("A", ids, **more))


def _recoded(encoding: str, declared: str | None = None, mark: bytes = b"") -> bytes:
    begin = "" if declared is None else _BEGIN.format(declared)
    return mark + _hidden(declaration=begin).decode().encode(encoding)


def _put(at: str, what: str) -> bytes:
    """Of A, with that before some place."""
    content = _hidden()
    assert content.count(at.encode()) == 1
    return content.replace(at.encode(), what.encode() + at.encode())


PLAIN = _of()
_TWO = '<id root="{}" extension="{}"/>'


def _pairs() -> dict[str, Pair]:
    refused: dict[str, bytes] = {
        # What reaches outside, or multiplies
        "external entity": _hidden(
            prolog='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', before="<title>&e;</title>"
        ),
        "external parameter entity": _hidden(prolog='<!DOCTYPE x [<!ENTITY % e SYSTEM "http://169.254.169.254/"> %e;]>'),
        "external DTD": _hidden(prolog='<!DOCTYPE ClinicalDocument PUBLIC "-//x" "http://169.254.169.254/x.dtd">'),
        "entity in an identifier": _hidden(prolog='<!DOCTYPE x [<!ENTITY e "mrn-A">]>', ids=_TWO.format(OID, "&e;")),
        "default attribute": _hidden(
            prolog=f'<!DOCTYPE x [<!ATTLIST id root CDATA "{OID}">]>', ids='<id extension="mrn-A"/>'
        ),
        "billion laughs": _hidden(prolog=_LAUGHS, before="<title>&c;</title>"),
        "quadratic blow-up": _hidden(
            prolog=f'<!DOCTYPE x [<!ENTITY a "{"x" * 9000}">]>', before=f"<title>{'&a;' * 900}</title>"
        ),
        "undefined entity": _hidden(before="<title>&nbsp;</title>"),
        "doctype alone": _hidden(prolog="<!DOCTYPE ClinicalDocument>"),
        "doctype in the middle": _put("<custodian>", "<!DOCTYPE x>"),
        "doctype behind": _hidden() + b"<!DOCTYPE x>",
        "XInclude in the header": _hidden(before=f'<i:include xmlns:i="{_XINCLUDE}" href="file:///etc/passwd"/>'),
        "XInclude in the body": _hidden(body=f'<structuredBody xmlns:i="{_XINCLUDE}"><i:include href="http://169.254.169.254/"/></structuredBody>'),
        "instruction in front": _hidden(prolog="<?xml-model href='http://169.254.169.254/'?>"),
        "instruction in the header": _put("<custodian>", "<?xml-stylesheet href='x'?>"),
        "instruction in the body": _hidden(body="<structuredBody><?php x?></structuredBody>"),
        "instruction behind": _hidden() + b"<?xml-stylesheet href='x'?>",
        "declaration in the middle": _put("<custodian>", '<?xml version="1.0"?>'),
        "declaration behind a blank": b" " + _hidden(),
        # Sizes
        "deep": _hidden(before="<a>" * 130 + "</a>" * 130),
        "many attributes": _hidden(before="<a " + " ".join(f"a{n}='x'" for n in range(100)) + "/>"),
        "long attribute": _hidden(before=f"<a x='{'y' * 80_000}'/>"),
        "long name": _hidden(before=f"<{'a' * 80_000}/>"),
        "long comment": _hidden(before=f"<!--{'y' * 80_000}-->"),
        "long identifier": _hidden(ids=_TWO.format(OID, "mrn-A" + "x" * 2000)),
        # Encodings
        "UTF-16": _recoded("utf-16"), "UTF-16, declared": _recoded("utf-16", "UTF-16"),
        "UTF-16 little-endian": _recoded("utf-16-le"), "UTF-16 big-endian": _recoded("utf-16-be"),
        "UTF-32": _recoded("utf-32"), "UTF-7, declared": _recoded("utf-8", "UTF-7"),
        "UTF-7": _recoded("ascii").replace(b"<", b"+ADw-").replace(b">", b"+AD4-"),
        "EBCDIC": _recoded("cp037", "IBM037"), "Latin-1": _recoded("latin-1", "ISO-8859-1"),
        "UTF-16 said of UTF-8": _recoded("utf-8", "UTF-16"), "unknown encoding": _recoded("utf-8", "x-mine"),
        "mark of UTF-16 before UTF-8": _recoded("utf-8", mark=b"\xff\xfe"),
        "two byte order marks": _recoded("utf-8", mark=b"\xef\xbb\xbf\xef\xbb\xbf"),
        "bytes of no character": _hidden(before="<title>\udcff</title>", errors="surrogateescape"),
        "overlong bytes": _hidden(before="<title>\udcc0\udcbc</title>", errors="surrogateescape"),
        "half of a pair": _hidden(before="<title>\ud800</title>", errors="surrogatepass"),
        "XML 1.1": _hidden(declaration='<?xml version="1.1"?>'),
        # What is no XML, or more than one document
        "nul byte": _put("<custodian>", "\0"), "nul in an identifier": _hidden(ids=_TWO.format(OID, "mrn-A\0")),
        "nul as a reference": _hidden(ids=_TWO.format(OID, "mrn-A&#0;")), "nul behind": _hidden() + b"\0",
        "text behind": _hidden() + b"x", "element behind": _hidden() + b"<x/>", "second document": _hidden() + PLAIN,
        "early end": _hidden()[:-1],
        "attribute twice": _hidden(ids=f'<id root="{OID}" extension="mrn-B" extension="mrn-A"/>'),
        "CDATA that does not end": _put("<custodian>", "<![CDATA["), "control character": _put("<custodian>", "\x0b"),
        # Two readers, two opinions
        "two patients": _hidden(before=_TARGET.format(OID, "mrn-B")),
        "two patients, the other first": _put("<recordTarget>", _TARGET.format(OID, "mrn-B")),
        "patient behind the body": _hidden(after=_TARGET.format(OID, "mrn-A")),
        "two identifiers": _hidden(ids="@" + _TWO.format(OID, "mrn-B")),
        "identifier of another namespace": _hidden(ids=f'<id xmlns="urn:x" root="{OID}" extension="mrn-A"/>'),
        "identifier of no namespace": _hidden(ids=f'<id xmlns="" root="{OID}" extension="mrn-A"/>'),
        "attributes of another namespace": _hidden(ids=f'<id xmlns:x="urn:x" x:root="{OID}" x:extension="mrn-A"/>'),
        "namespace moved under a prefix": _hidden(
            before=f'<x:recordTarget xmlns:x="urn:x"><patientRole>{_TWO.format(OID, "mrn-B")}</patientRole></x:recordTarget>'
        ),
        "prefix of the root moved": _hidden(root='<x:ClinicalDocument xmlns:x="urn:x" xmlns="urn:hl7-org:v3">').replace(
            b"</ClinicalDocument>", b"</x:ClinicalDocument>"
        ),
        "namespace with a blank": _hidden(root='<ClinicalDocument xmlns="urn:hl7-org:v3 ">'),
        "namespace in capitals": _hidden(root='<ClinicalDocument xmlns="URN:HL7-ORG:V3">'),
        "identifier as CDATA": _hidden(ids=f'<id root="{OID}"><![CDATA[mrn-A]]></id>'),
        "identifier in a comment": _hidden(ids="<!--@-->"),
        "identifier in CDATA": _hidden(ids="<![CDATA[@]]>"),
        "name of an attribute in capitals": _hidden(ids=f'<id root="{OID}" Extension="mrn-A"/>'),
        "letter that looks alike": _hidden(ids=_TWO.format(OID, "mrn-\u0410")),
        "letter of no width": _hidden(ids=_TWO.format(OID, "mrn-\u200bA")),
        "patient role twice": _hidden(after_role=f"<patientRole>{_TWO.format(OID, 'mrn-A')}</patientRole>"),
    }  # fmt: skip
    read: dict[str, Pair] = {
        "comments around an identifier": _read("<!-- <id root='1.2'/> -->@<!-- > -->"),
        "identifier by references": Pair(
            _of(ids=_TWO.format(OID, "&#109;rn-&#x42;"), body=_MARK), _of(ids=_TWO.format(OID, "&#109;rn-&#x41;"))
        ),
        "a byte order mark": Pair(b"\xef\xbb\xbf" + _of("B", body=_MARK), b"\xef\xbb\xbf" + PLAIN),
        "another prefix": Pair(*(
            _of(each, f'<v:id root="{OID}" extension="~"/>',
                root='<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:v="urn:hl7-org:v3">')
            for each in "BA"
        )),
        "a prefix that hides another": Pair(*(
            _of(each, f'<v:id xmlns:v="urn:hl7-org:v3" root="{OID}" extension="~"/>',
                root='<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:v="urn:x">')
            for each in "BA"
        )),
        "blanks in a tag": _read(f'<id\n\troot = "{OID}"\r\n extension\t=\n\'~\' ></id\n>'),
        "a greater-than sign in a value": _read("@", before="<title x='&gt;/>-->]]'/>"),
        "CDATA in the body": _read("@", after="", before="<title><![CDATA[</ClinicalDocument>]]></title>"),
        "a stylesheet in front": _read("@", prolog="\n<?xml-stylesheet href='http://169.254.169.254/'?>\n"),
        "nested identifiers": _read(f'@<x xmlns="urn:x"><id root="{OID}" extension="mrn-A"/></x>'),
        "single quotes": _read(f"<id root='{OID}' extension='~'/>"),
        "comments behind": Pair(_of("B", body=_MARK) + b"<!-- x -->\n", PLAIN + b"<!-- x -->\n"),
    }  # fmt: skip
    return {name: Pair(content, PLAIN) for name, content in refused.items()} | read


PAIRS = _pairs()
