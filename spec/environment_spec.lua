local support = require "spec.support"

-- What each variable accepts and refuses; a refusal has all these texts.
local REFUSED = {
  MPENGINE_SHM_LIMIT = {
    "16MB", "-1", "1e9", " 64M", "64M ", "M", "lots", "0", "1023K", "99999999999999999999", "20000000T",
  },
  MPENGINE_DEADLOCK = { "on", "0", "OFF", "report " },
  MPENGINE_START_METHOD = { "Fork", "thread", "fork,spawn" },
}
local EXPECTED = {
  MPENGINE_SHM_LIMIT = { "bytes", "1M or more" },
  MPENGINE_DEADLOCK = { "report", "off" },
  MPENGINE_START_METHOD = { "fork", "spawn", "forkserver" },
}

describe("an environment variable", function()
  for name, values in pairs(REFUSED) do
    it(("such as %s with a wrong value is an error that names it, and what it accepts"):format(name), function()
      for _, value in ipairs(values) do
        for _, mode in ipairs { "command", "stock" } do
          local texts = { name, "'" .. value .. "'", "is not accepted", table.unpack(EXPECTED[name]) }
          support.ends(1, texts, "require 'mpengine' print 'it runs'",
            { mode = mode, env = { [name] = value }, plain = true })
        end
      end
    end)
  end

  it("is checked where it is not used, too", function()
    support.ends(1, { "MPENGINE_START_METHOD", "teleport" }, "print 'no process'",
      { mode = "command", env = { MPENGINE_START_METHOD = "teleport" }, plain = true })
  end)

  it("is checked in a host", function()
    local host = support.root .. "/build/hosts/bindings/examples/embed_lua-a-c99"
    if not io.open(host) then return pending "the hosts are not built" end
    for name, values in pairs(REFUSED) do
      local said = support.shell(("%s=%s %s 2>&1; echo status $?"):format(name, support.quote(values[1]), host))
      assert.truthy(said:find("status [1-9]"), said)
      assert.truthy(said:find(name, 1, true), said)
    end
  end)

  it("that is empty counts as unset", function()
    for _, mode in ipairs { "command", "stock" } do
      local empty = {}
      for name in pairs(REFUSED) do empty[name] = "" end
      empty.MPENGINE_EXECUTABLE = ""
      support.prints("fork\t68719476736\n", "print(mp.get_start_method(), mp.stats().arena.limit)",
        { mode = mode, env = empty })
    end
  end)

  it("MPENGINE_SHM_LIMIT is the limit that is reported and enforced", function()
    for text, bytes in pairs { ["16M"] = 16 << 20, ["2g"] = 2 << 30, ["33554432"] = 32 << 20, ["2048K"] = 2 << 20,
      ["1M"] = 1 << 20 } do
      support.ok(([[
        eq(mp.stats().arena.limit, %d)
        local q = mp.Queue()
        q:put "x"
        raises("shared memory exhausted", mp.Array, "b", %d)
        eq(q:get(), "x")]]):format(bytes, bytes), { env = { MPENGINE_SHM_LIMIT = text } })
    end
  end)

  it("MPENGINE_EXECUTABLE with a program that is not there is named by what starts it", function()
    support.ok([[
      mp.set_start_method "spawn"
      raises({ "/no/such/program", "MPENGINE_EXECUTABLE" }, P, print)]],
      { env = { MPENGINE_EXECUTABLE = "/no/such/program" } })
  end)
end)
