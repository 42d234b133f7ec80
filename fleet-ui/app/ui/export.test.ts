import { describe, expect, it } from "vitest";
import { csv } from "./export";

describe("a table as CSV", () => {
  it("quotes what would end a field or a row", () => {
    expect(csv(["a", "b"], [['say "hi"', "x,y"], ["two\nlines", null], [undefined, 3]])).toBe('a,b\r\n"say ""hi""","x,y"\r\n"two\nlines",\r\n,3\r\n');
  });
  it.each(["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])("keeps a spreadsheet from running %j", (evil) => expect(csv(["a"], [[evil]])).toBe(`a\r\n'${evil}\r\n`));
  it("leaves numbers below zero as they are", () => expect(csv(["a"], [[-5]])).toBe("a\r\n-5\r\n"));
});
