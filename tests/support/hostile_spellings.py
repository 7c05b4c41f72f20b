"""Spellings of a secret, and texts that must not reach a log, terminal or database."""

import html
import json
from base64 import b64encode
from urllib.parse import quote, quote_plus

#: A key, a header and a signature that must not be published. Their characters have many spellings.
KEY = "sk-Zq9/uW+4x\"=%7E'<&>\\Lm2pRt"
HEADER = ("X-Proxy-Token", 'tok-7f/"3 a+b\\c%2Fd9<&>Yy')
SIGNATURE = "a1B2c3D4e5F6sigX9x8y7z"

#: Each returns a text as an answer may spell it. The escapes of JSON come in addition.
SPELLINGS = {
    "plain": str,
    "escaped as JSON": lambda text: json.dumps(text)[1:-1],
    "with escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "escaped by number": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "escaped by number, in capitals": lambda text: "".join(f"\\u{ord(char):04X}" for char in text),
    "in percent": lambda text: quote(text, safe=""),
    "all in percent": lambda text: "".join(f"%{ord(char):02x}" for char in text),
    "as a form": quote_plus,
    "as HTML": html.escape,
    "as HTML numbers": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "as HTML numbers in hex": lambda text: "".join(f"&#x{ord(char):x};" for char in text),
    "in base64": lambda text: b64encode(text.encode()).decode(),
    "in base64 as Bearer": lambda text: b64encode(f"Bearer {text}".encode()).decode(),
    "as a Python text": repr,
}
TEXTS = {
    "NUL": "a\0b",
    "ESC": "a\x1b[31mb\x07",
    "C1": "a\x9b31mb\x85",
    "CR and LF": "a\r\nERROR - it was paid twice\n",
    "a bidi mark": "a\u202eb\u2066c\u200f",
    "a lone surrogate": "a\ud83db",
    "a swapped pair of surrogates": "a\ude00\ud83db",
}
