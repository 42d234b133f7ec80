import { expect, it } from "vitest";
import { lineFor, quoted } from "./line";

it("quotes what a shell would read otherwise", () => {
  expect(quoted("edge-1.lab")).toBe("edge-1.lab");
  expect(quoted("a b")).toBe("'a b'");
  expect(quoted("$(reboot); it's `x`")).toBe("'$(reboot); it'\\''s `x`'");
  expect(quoted("")).toBe("''");
});

it("adds a name where there is one", () => {
  expect(lineFor("aidos-agent join", " ")).toBe("aidos-agent join");
  expect(lineFor("aidos-agent join", " gate 4 ")).toBe("aidos-agent join --name 'gate 4'");
});
