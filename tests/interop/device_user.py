"""The user of a device: goes through the server's pages as a browser without JavaScript would."""

import html
import os
import re
import urllib.parse

import httpx

DECISIONS = ["login", "continue", "allow"]


def form_of(page):
    """The first form to post: its action, its fields, and the decisions that its buttons offer."""
    form = re.search(r'<form\b[^>]*method="post".*?</form>', page, re.S | re.I)
    if not form:
        return None
    attribute = lambda tag, name: (re.search(rf'\b{name}="([^"]*)"', tag) or [None, None])[1]
    fields = {}
    for tag in re.findall(r"<input\b[^>]*>", form[0]):
        if attribute(tag, "name") and 'type="checkbox"' not in tag:
            fields[attribute(tag, "name")] = html.unescape(attribute(tag, "value") or "")
    offered = re.findall(r'<button\b[^>]*name="decision"[^>]*value="([^"]*)"', form[0])
    return html.unescape(attribute(form[0], "action") or ""), fields, offered


def approve(url, user_code):
    """Types the code, signs in and allows; the heading of the last page."""
    answers = {"user_code": user_code, "username": os.environ["LOGIN"], "password": os.environ["PASSWORD"]}
    with httpx.Client(headers={"accept": "text/html"}) as browser:
        answer = browser.get(url)
        for _ in range(20):
            refresh = re.search(r"url=(.*)$", answer.headers.get("refresh", ""), re.I)
            onward = answer.headers.get("location") or (refresh and refresh.group(1))
            if onward:
                answer = browser.get(urllib.parse.urljoin(str(answer.url), onward))
                continue
            form = form_of(answer.text)
            if form is None:
                assert answer.status_code == 200, (answer.status_code, answer.text)
                return html.unescape(re.search(r"<h1>(.*?)</h1>", answer.text, re.S)[1])
            action, fields, offered = form
            fields |= {name: value for name, value in answers.items() if name in fields}
            chosen = [decision for decision in DECISIONS if decision in offered]
            if chosen:
                fields["decision"] = chosen[-1]
            target = urllib.parse.urljoin(str(answer.url), action)
            origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(target))
            headers = {"origin": origin, "sec-fetch-site": "same-origin"}
            answer = browser.post(target, data=fields, headers=headers)
    raise AssertionError(f"too many steps, stuck at {answer.url}")
