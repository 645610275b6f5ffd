-- What the end of a program says on a terminal while it waits for children.
local support = require "spec.support"
local quote = support.quote

-- Output and status of a script whose standard error is a terminal; its own lines begin with "> ".
local function on_terminal(code, stock)
  local path = os.tmpname()
  support.write_file(path, 'local mp = require "mpengine" ' .. code)
  local command = (stock and support.stock_command() or quote(support.command)) .. " " .. path
  local text = support.shell((support.limit .. " script -qec %s /dev/null < /dev/null"):format(
    quote(command .. "; echo status $?")))
  os.remove(path)
  return (text:gsub("\r\n", "\n"))
end

local SLOW = [[
  mp.Process{ name = "worker-1", target = function() print "> begins" mp.sleep(2) print "> ends" end }:start()
  mp.Process{ name = "worker-2", target = function() mp.sleep(2) end }:start()
  mp.Process{ name = "quick", target = function() end }:start()
  mp.Process{ name = "service", daemon = true, target = function() mp.sleep(60) end }:start()]]

describe("the end of a program on a terminal", function()
  it("says once which children it waits for, after a second", function()
    for _, stock in ipairs{ false, true } do
      local text = on_terminal(SLOW, stock)
      local one, two = text:match("^> begins\nmpengine: waiting for 2 processes: "
        .. "worker%-1 %(pid (%d+)%), worker%-2 %(pid (%d+)%)\n> ends\nstatus 0\n$")
      assert.truthy(one, text)
      assert.is_true(one ~= two)
    end
  end)

  it("says so after os.exit and after an error, and not in the children", function()
    local wait = [[
      mp.Process{ name = "middle", target = function()
        mp.Process{ name = "last", target = function() mp.sleep(2) end }:start()
      end }:start()
    ]]
    local line = "mpengine: waiting for 1 process: middle %(pid %d+%)\n"
    assert.truthy(on_terminal(wait .. "os.exit(3)"):find("^" .. line .. "status 3\n$"))
    assert.truthy(on_terminal(wait .. "os.exit(3, true)"):find("^" .. line .. "status 3\n$"))
    assert.truthy(on_terminal(wait .. "error('over', 0)"):find("over\n.*" .. line .. "status 1\n$"))
  end)

  it("counts those that it does not name", function()
    local text = on_terminal "for _ = 1, 12 do mp.Process(mp.sleep, 2):start() end"
    assert.truthy(text:find "^mpengine: waiting for 12 processes: Process%-1 .*, Process%-8 %(pid %d+%) and 4 more\n")
  end)

  it("says nothing when they end soon", function()
    assert.equal("status 0\n", on_terminal "for _ = 1, 3 do mp.Process(mp.sleep, 0.1):start() end")
  end)
end)

describe("the end of a program", function()
  it("says nothing of its wait when standard error is no terminal", function()
    local r = support.run "mp.Process(mp.sleep, 1.3):start()"
    assert.same({ 0, "" }, { r.status, r.stderr })
  end)
end)
