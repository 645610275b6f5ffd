-- A program in a terminal that a spec types into: tmux shows what is on its screen.
local support = require "spec.support"
local quote, shell = support.quote, support.shell

local terminal = { is_there = shell("command -v tmux") ~= "" }

local counter = 0

--- Runs a shell command in a terminal of 80x24; calls use(t):
---   t.screen(text…)   waits until all of them are on the screen; what is on it
---   t.styled(accepts) waits until accepts(what is on it, with its styles)
---   t.press(key…)     as tmux names them: "Enter", "C-c", "Up"
---   t.type(text)      types a text as it is; t.line(text) with Enter
---   t.resize(columns, lines)
--- After "status N" on the screen the command has ended, with N.
---@param command string
---@param use fun(t: table)
function terminal.run(command, use)
  counter = counter + 1
  local tmux = ("tmux -L mpengine-spec-%s-%d"):format(shell("echo $PPID"):match "%d+", counter)
  local program <close> = setmetatable({}, { __close = function() shell(tmux .. " kill-server 2>/dev/null") end })
  shell(("LC_ALL=C.UTF-8 %s -f /dev/null new-session -d -x 80 -y 24 %s"):format(tmux,
    quote(command .. "; echo status $?; exec sleep 100")))
  local t = {}
  function t.screen(...)
    local wanted, shown, missing = { ... }, nil, nil
    local found = support.eventually(function()
      shown, missing = shell(tmux .. " capture-pane -p"), nil
      for _, text in ipairs(wanted) do
        if not shown:find(text, 1, true) then missing = text end
      end
      return not missing
    end)
    if not found then error(("'%s' is not on the screen:\n%s"):format(missing, shown), 2) end
    return shown
  end
  function t.styled(accepts)
    local shown
    local found = support.eventually(function()
      shown = shell(tmux .. " capture-pane -p -e")
      return accepts(shown)
    end)
    if not found then error("what is on the screen is not accepted:\n" .. shown, 2) end
  end
  function t.press(...) shell(tmux .. " send-keys " .. table.concat({ ... }, " ")) end
  function t.type(text) shell(("%s send-keys -l -- %s"):format(tmux, quote(text))) end
  function t.line(text)
    t.type(text)
    t.press "Enter"
  end
  function t.resize(columns, lines) shell(("%s resize-window -x %d -y %d"):format(tmux, columns, lines)) end
  use(t)
  return program
end

return terminal
