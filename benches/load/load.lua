-- What wrk sends. The first argument names the operation, the second a file with one token a line.
local what, arg1, arg2, arg3
local queue, head, tail = {}, 1, 0

local function push(x) tail = tail + 1; queue[tail] = x end
local function pop()
  if head > tail then return nil end
  local x = queue[head]; queue[head] = nil; head = head + 1
  return x
end
local function read(file)
  for line in io.lines(file) do push(line) end
end
local form = { ["Content-Type"] = "application/x-www-form-urlencoded" }
local function post(path, body, authorization)
  form["Authorization"] = authorization ~= "none" and authorization or nil
  return wrk.format("POST", path, form, body)
end

-- Answers other than expected; an answer may be an error by right.
unexpected = 0
local threads = {}
function setup(thread) threads[#threads + 1] = thread end

function init(args)
  what, arg1, arg2, arg3 = args[1], args[2], args[3], args[4]
  if what == "poll" then expected = args[5] end
  if what ~= "refresh" and what ~= "code" and what ~= "poll" then response = nil end
  if what == "bearer" then read(arg3) end
  if what == "each" or what == "cycle" or what == "refresh" or what == "poll" then read(arg3) end
end

-- get: arg1 path.  post: arg1 path, arg2 authorization, arg3 body.
-- each: arg1 path, arg2 authorization, arg3 file of bodies, each sent once.  cycle: the same, again and again.
-- bearer: arg1 a path to get, arg3 file of bodies, whose tokens are sent in the header, again and again.
-- poll: the same as cycle, where each answer is to be the error that is named by the fourth argument.
-- refresh: arg1 path, arg2 authorization, arg3 file of refresh tokens; each answer brings the next.
-- code: arg1 token path, arg2 authorization, arg3 "authorize path|body prefix|cookie|cookie|…".
-- alternate: arg1 a path to get, arg2 a path to post to.
local authorize, prefix, turn
local cookies, user = {}, 0
function request()
  if what == "get" then return wrk.format("GET", arg1) end
  if what == "post" then return post(arg1, arg3, arg2) end
  if what == "each" then return post(arg1, pop() or "token=none", arg2) end
  if what == "cycle" or what == "poll" then local b = pop(); push(b); return post(arg1, b, arg2) end
  if what == "bearer" then
    local b = pop(); push(b)
    return wrk.format("GET", arg1, { Authorization = "Bearer " .. b:gsub("^token=", "") })
  end
  if what == "refresh" then
    return post(arg1, "grant_type=refresh_token&refresh_token=" .. (pop() or "none"), arg2)
  end
  if what == "alternate" then
    turn = not turn
    if turn then return wrk.format("GET", arg1) end
    return post(arg2, "token=x")
  end
  if not authorize then
    local all
    authorize, prefix, all = arg3:match("^(.-)|(.-)|(.*)$")
    for cookie in all:gmatch("[^|]+") do cookies[#cookies + 1] = cookie end
  end
  local code = pop()
  if code then return post(arg1, prefix .. code, arg2) end
  user = user % #cookies + 1
  return wrk.format("GET", authorize, { Cookie = cookies[user] })
end

function response(status, headers, body)
  if what == "poll" then
    if not body:find(expected, 1, true) then unexpected = unexpected + 1 end
  elseif what == "refresh" then
    local token = body:match('"refresh_token":"([^"]+)"')
    if token then push(token) end
  elseif what == "code" then
    local place = headers["location"] or headers["Location"]
    local code = place and place:match("[?&]code=([^&]+)")
    if code then push(code) end
  end
end

function done(summary, latency)
  local e = summary.errors
  local wrong = e.status
  for _, thread in ipairs(threads) do
    if thread:get("expected") then wrong = thread:get("unexpected") end
  end
  io.write(string.format("RESULT requests=%d duration_us=%d p50_us=%d p99_us=%d failed=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + wrong + e.timeout))
end
