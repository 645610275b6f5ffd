-- The busted output handler of the test script. It prints failures in full as they happen. It also
-- writes one word for each test to the file named by MPE_TALLY, at once, so that tests that ran
-- before a crash are counted. The last word, `end`, says that busted ended normally. A pending test
-- is a line `skip  NAME`, with its reason. So is one that the file named by MPE_TEST_SKIP leaves out: a line
-- `NAME REASON` each, where the name has `_` for whatever is no letter and no digit. The C tests read the same file.

local pretty = require("pl.pretty")

return function(options)
  local busted = require("busted")
  local handler = require("busted.outputHandlers.base")()
  local tally = assert(io.open(assert(os.getenv("MPE_TALLY"), "MPE_TALLY is not set"), "a"))
  local reasons = {} -- element that is pending -> why
  local left_out = {} -- name of a case -> why
  local list = os.getenv("MPE_TEST_SKIP")
  for line in list and io.lines(list) or function() end do
    local name, why = line:match("^(%S+) (.+)$")
    if name then left_out[name] = why end
  end

  local function note(word)
    tally:write(word, "\n")
    tally:flush()
  end

  local function say(format, ...)
    io.stdout:write(format:format(...), "\n")
    io.stdout:flush()
  end

  -- The text of an error says where it was raised; the element knows where the test is written.
  local function complain(element, message, trace)
    local at = element.trace or {}
    say("FAIL  %s (%s:%s)", handler.getFullName(element), at.short_src or "?", at.currentline or "?")
    say("%s", type(message) == "string" and message or pretty.write(message or "no message"))
    if options.verbose and trace and trace.traceback then
      say("%s", trace.traceback)
    end
  end

  function handler.started(element)
    local why = left_out[handler.getFullName(element):gsub("%W+", "_")]
    if why then
      element.run = function() require("busted.core")().pending(why) end
    end
    return nil, true
  end

  function handler.ended(element, _, status)
    note(status)
    if status == "success" then
      say("ok    %s", handler.getFullName(element))
    elseif status == "pending" then
      local reason = reasons[element]
      say("skip  %s%s", handler.getFullName(element), reason and ": " .. reason or "")
    end
    return nil, true
  end

  function handler.failed(element, _, message, trace)
    complain(element, message, trace)
    return nil, true
  end

  function handler.pending(element, _, message)
    reasons[element] = type(message) == "string" and message:gsub("^%S+:%d+: ", "") or nil
    return nil, true
  end

  -- Outside a test, in a file or in its set-up: no test ends with it, so it counts by itself.
  function handler.broke(element, _, message, trace)
    if element.descriptor ~= "it" then
      note("error")
      complain(element, message, trace)
    end
    return nil, true
  end

  function handler.finished()
    note("end")
    return nil, true
  end

  busted.subscribe({ "pending" }, handler.pending)
  busted.subscribe({ "test", "start" }, handler.started)
  busted.subscribe({ "test", "end" }, handler.ended, { predicate = handler.cancelOnPending })
  busted.subscribe({ "failure", "it" }, handler.failed)
  busted.subscribe({ "error", "it" }, handler.failed)
  busted.subscribe({ "failure" }, handler.broke)
  busted.subscribe({ "error" }, handler.broke)
  busted.subscribe({ "exit" }, handler.finished)

  return handler
end
