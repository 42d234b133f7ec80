import { MantineProvider } from "@mantine/core";
import { renderToStaticMarkup } from "react-dom/server";
import { expect, it } from "vitest";
import { ApiError } from "~/api/problem";
import { ErrorPanel } from "./ErrorPanel";

function said(error: unknown): string {
  const place = document.createElement("div");
  place.innerHTML = renderToStaticMarkup(<MantineProvider><ErrorPanel error={error} /></MantineProvider>);
  return place.querySelector('[role="alert"] [class*=title]')!.textContent!;
}

it("names the part that is wrong", () => {
  expect(said(new ApiError(422, { field: "name", detail: "`A B` is not a tenant name" }))).toBe("name: `A B` is not a tenant name");
  expect(said(new ApiError(422, { field: "plan.waves", detail: "1%,x%\n   ^ not a number before `%`" }))).toBe("waves: 1%,x%\n   ^not a number before `%`");
  expect(said(new ApiError(422, { field: "ttl_s", detail: "ttl_s is 1, it must be 60 to 316224000" }))).toBe("ttl_s is 1, it must be 60 to 316224000");
  expect(said(new ApiError(404, { detail: "there is no device" }))).toBe("there is no device");
  expect(said("?")).toBe("The page met something that it did not expect");
});
