-- The test script itself, run on files made for it: what it counts and names, and what it counts as
-- a failure.
local support = require "spec.support"

local dir

setup(function()
  dir = os.tmpname() .. ".d"
  support.shell("mkdir -p " .. dir .. "/tests/part")
end)

teardown(function() support.shell("rm -rf " .. dir) end)

-- Runs a stage; the output with the folder's name taken out, and the status. Nothing of the run that this is in
-- is handed on.
local function test(stage, settings)
  local command = "cd %s && env -u FILTER -u SPEC -u UNIT -u V -u RUNNER %s tools/test.sh %s; echo status $?"
  local text = support.shell(command:format(support.root, settings:gsub("DIR", dir), stage))
  local output, status = text:match "^(.*)status (%d+)\n$"
  return output:gsub(dir:gsub("%p", "%%%0"), "DIR"), tonumber(status)
end

local function specs(files, settings)
  local names = {}
  for name, code in pairs(files) do
    support.write_file(dir .. "/" .. name, code)
    names[#names + 1] = "DIR/" .. name
  end
  table.sort(names)
  return test("spec", ("SPEC='%s' %s"):format(table.concat(names, " "), settings or ""))
end

-- A program in place of a unit test.
local function unit(script)
  local program = dir .. "/tests/part/some_test"
  support.write_file(program, "#!/bin/sh\n" .. script)
  support.shell("chmod +x " .. program)
  return test("unit", "BUILD=DIR UNIT=engine/part/some_test.c")
end

local function last_line(output) return output:match "([^\n]*)\n$" end

local GOOD = 'describe("this", function() it("works", function() end) end)'

describe("the test script", function()
  it("ends with what passed and what failed, and nothing else in that line", function()
    local output, status = specs { ["a_spec.lua"] = GOOD, ["b_spec.lua"] = GOOD }
    assert.same({ "2 passed, 0 failed", 0 }, { last_line(output), status })
    assert.falsy(output:find("skipped", 1, true))
    output, status = specs { ["b_spec.lua"] = GOOD .. 'it("fails", function() error "the reason" end)' }
    assert.same({ "1 passed, 1 failed", 1 }, { last_line(output), status })
    assert.truthy(output:find("the reason", 1, true))
  end)

  for what, code in pairs {
    ["no case"] = "",
    ["an empty describe"] = 'describe("nothing", function() end)',
    ["cases that are all pending"] = 'pending "one" describe("two", function() pending "not here" end)',
  } do
    it("takes a spec file with " .. what .. " for a failure", function()
      local output, status = specs { ["a_spec.lua"] = GOOD, ["b_spec.lua"] = code }
      assert.same({ "1 passed, 1 failed", 1 }, { last_line(output), status })
      assert.truthy(output:find("DIR/b_spec%.lua +0 passed, 1 failed.*no case of this file has run"), output)
    end)
  end

  it("counts a spec file that cannot be read as Lua as one failure", function()
    local output, status = specs { ["a_spec.lua"] = GOOD, ["b_spec.lua"] = "this is none" }
    assert.same({ "1 passed, 1 failed", 1 }, { last_line(output), status })
  end)

  it("counts and names what is skipped, with the reason", function()
    local output, status = specs { ["a_spec.lua"] = GOOD .. [[
      it("waits", function() return pending "no moon tonight" end)
      pending "later"]] }
    assert.equal(0, status)
    assert.truthy(output:find("1 passed, 0 failed, 2 skipped\n2 skipped:\n", 1, true), output)
    for _, name in ipairs { "DIR/a_spec.lua: waits: no moon tonight\n", "DIR/a_spec.lua: later\n" } do
      assert.truthy(output:find(name, 1, true), output)
    end
    assert.equal("1 passed, 0 failed", last_line(output))
  end)

  it("lets a filter leave files without a case, but not all of them", function()
    local files = { ["a_spec.lua"] = GOOD, ["b_spec.lua"] = 'it("is another", function() end)' }
    local output, status = specs(files, "FILTER=another")
    assert.same({ "1 passed, 0 failed", 0 }, { last_line(output), status })
    output, status = specs(files, "FILTER=neither")
    assert.same({ "0 passed, 0 failed", 1 }, { last_line(output), status })
  end)

  it("counts unit tests in the same way", function()
    local output, status = unit "echo 'ok    one (1 ms)'\necho 'skip  two: not here'\necho '1 passed, 0 failed'"
    assert.same({ "1 passed, 0 failed", 0 }, { last_line(output), status })
    assert.truthy(output:find("1 skipped:\n    part/some_test: two: not here\n", 1, true), output)
    output, status = unit "echo 'skip  two: not here'\necho '0 passed, 0 failed'"
    assert.same({ "0 passed, 1 failed", 1 }, { last_line(output), status })
    output, status = unit "echo 'ok    one (1 ms)'\nkill -SEGV $$"
    assert.same({ "1 passed, 1 failed", 1 }, { last_line(output), status })
  end)
end)
