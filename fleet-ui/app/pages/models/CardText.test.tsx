import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";
import { CardText } from "./CardText";

function shown(markdown: string): HTMLElement {
  const place = document.createElement("div");
  place.innerHTML = renderToStaticMarkup(<CardText>{markdown}</CardText>);
  return place;
}

describe("a card", () => {
  it("has tables with their alignment, lists to tick, and what was struck out", () => {
    const card = shown("| class | recall |\n|:--|--:|\n| cat | 0.97 |\n| dog | **0.91** |\n\n- [x] trained\n- [ ] audited\n\n~~old~~");
    const cells = (selector: string) => [...card.querySelectorAll<HTMLElement>(selector)].map(({ textContent, style }) => [textContent, style.textAlign]);
    expect(cells("table.plain th")).toEqual([["class", "left"], ["recall", "right"]]);
    expect(cells("tbody td")).toEqual([["cat", "left"], ["0.97", "right"], ["dog", "left"], ["0.91", "right"]]);
    expect(card.querySelector(".scroll-x")!.getAttribute("tabindex")).toBe("0");
    expect([...card.querySelectorAll("li")].map(({ textContent }) => textContent!.trim())).toEqual(["☑ trained", "☐ audited"]);
    expect(card.querySelector("del")!.textContent).toBe("old");
  });

  it("has no head of a column that says nothing", () => {
    const card = shown("| | size |\n|---|---|\n| a | 1 |");
    expect([...card.querySelectorAll("th")].map(({ textContent, scope }) => [textContent, scope])).toEqual([["size", "col"]]);
    expect(shown("| | |\n|---|---|\n| a | 1 |").querySelector("th")).toBeNull();
  });

  it("links addresses that stand bare, to another window and without a word of where from", () => {
    const card = shown("See https://example.org/a?b=1, www.example.net and who@example.com; [above](#top)");
    const links = [...card.querySelectorAll("a")].map((link) => [link.getAttribute("href"), link.rel, link.target]);
    const away = ["noopener noreferrer nofollow", "_blank"];
    expect(links).toEqual([["https://example.org/a?b=1", ...away], ["http://www.example.net", ...away], ["mailto:who@example.com", ...away], ["#top", "", ""]]);
  });

  it("leads from a footnote and back", () => {
    const card = shown("Text[^1]\n\n[^1]: note");
    for (const link of card.querySelectorAll("a")) expect(card.querySelector(link.getAttribute("href")!), link.outerHTML).not.toBeNull();
  });
});

const RUN = `<img src=x onerror="alert(1)"><script>alert(1)</script>`;

describe("what would run", () => {
  it.each([
    ["HTML", RUN],
    ["HTML in a cell", `| a | b |\n|---|---|\n| ${RUN} | <svg onload=alert(1)> |`],
    ["HTML in a head", `| ${RUN} |\n|---|\n| b |`],
    ["a cell that ends its table", "| a |\n|---|\n| </td></table><iframe srcdoc='<script>alert(1)</script>'> |"],
    ["an address in a cell", "| a |\n|---|\n| [go](javascript:alert(1)) ![p](javascript:alert(1)) |"],
    ["an address with blanks and letters that are not seen", "[go](java\tscript:alert(1)) [go](<\u0001javascript:alert(1)>) [go](JaVaScRiPt:alert(1)) [go](vbscript:x) [go](data:text/html,x)"],
    ["an address in pointed brackets", "<javascript:alert(1)> <data:text/html;base64,PHNjcmlwdD4=>"],
    ["an address that stands bare", "javascript:alert(1) www.javascript:alert(1) data:text/html,x https://x.org/\"onmouseover=alert(1) www.x.org/'><script>alert(1)</script>"],
    ["a mail address", "javascript:x@example.com \"onclick=alert(1)\"@example.com"],
    ["a footnote", `x[^a"onclick=alert(1)] [^1]\n\n[^1]: [go](javascript:alert(1)) ${RUN}\n\n[^a"onclick=alert(1)]: y`],
    ["a reference", "[go]\n\n[go]: javascript:alert(1) \"t\" onclick=alert(1)"],
    ["a picture", "![p](https://elsewhere.example/x.png) ![p][r]\n\n[r]: https://elsewhere.example/y.png"],
    ["a title", "[go](https://example.org \"x\\\" onclick=\\\"alert(1)\")"],
    ["a language of code", "```js\" onclick=\"alert(1)\n1\n```"],
    ["a task", "- [x] <input onfocus=alert(1) autofocus>"],
  ])("does not: %s", (_, markdown) => {
    const card = shown(markdown);
    expect(card.querySelector("script, img, iframe, svg, style, form, input, object, embed, link, meta, base")).toBeNull();
    for (const element of card.querySelectorAll("*")) {
      for (const { name, value } of element.attributes) {
        expect(name, element.outerHTML).not.toMatch(/^on|^srcdoc$|^src$/);
        if (name === "href") expect(value).toMatch(/^(https?:|mailto:|#)/);
      }
    }
  });
});
