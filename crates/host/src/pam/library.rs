//! Linux-PAM's library, looked for at run time: most machines have it, and the program starts on those that have not.
//!
//! There is no other way to PAM than its C functions, which take pointers and call back: that is what `unsafe` is here for, and nowhere
//! else. It runs in a process that does nothing else and has one thread. Always true: what is handed to the library lives until
//! `pam_end` has returned, and what it is to free was allocated with C's allocator.
#![expect(
    unsafe_code,
    reason = "PAM is a C library that is found at run time and calls back"
)]

use super::{Answer, Question};
use libloading::{Library as Loaded, Symbol};
use nix::libc;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

/// The file of Linux-PAM, on every distribution.
const FILE: &str = "libpam.so.0";

// Linux-PAM's `_pam_types.h`.
const SUCCESS: c_int = 0;
const OPEN_FAILED: c_int = 1;
const SYMBOL_MISSING: c_int = 2;
const SERVICE_FAILED: c_int = 3;
const NO_MEMORY: c_int = 5;
const UNAVAILABLE: c_int = 9;
const CONVERSATION_FAILED: c_int = 19;
const ABORTED: c_int = 26;
const MODULE_UNKNOWN: c_int = 28;
const ITEM_USER: c_int = 2;
const ITEM_REMOTE_HOST: c_int = 4;
const SILENT: c_int = 0x8000;
const NO_EMPTY_PASSWORD: c_int = 0x1;
const ASKS_HIDDEN: c_int = 1;
const ASKS_SHOWN: c_int = 2;
/// The most messages at once (`PAM_MAX_NUM_MSG`).
const MESSAGES: c_int = 32;

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

#[repr(C)]
struct Conversation {
    talk:
        unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
    data: *mut c_void,
}

type Handle = *mut c_void;
type Start =
    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut Handle) -> c_int;
type StartIn = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const Conversation,
    *const c_char,
    *mut Handle,
) -> c_int;
type Step = unsafe extern "C" fn(Handle, c_int) -> c_int;
type SetItem = unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int;
type GetItem = unsafe extern "C" fn(*const c_void, c_int, *mut *const c_void) -> c_int;
type Explain = unsafe extern "C" fn(Handle, c_int) -> *const c_char;

/// What modules are told when they ask.
struct Told {
    user: CString,
    password: CString,
}

/// PAM as this machine has it.
pub(super) struct Library {
    loaded: Loaded,
}

impl Library {
    /// Looks for it.
    pub(super) fn open() -> Result<Self, String> {
        // SAFETY: Linux-PAM does nothing when it is loaded, and nothing that breaks this process when it is unloaded.
        let loaded = unsafe { Loaded::new(FILE) };
        loaded.map(|loaded| Self { loaded }).map_err(|error| {
            format!("{FILE} is not there: install libpam0g, or what it is called here ({error})")
        })
    }

    fn function<T>(&self, name: &str) -> Result<Symbol<'_, T>, String> {
        // SAFETY: the types above are those of Linux-PAM's headers, which have not changed since it has been.
        let found = unsafe { self.loaded.get(name.as_bytes()) };
        found.map_err(|_| format!("{FILE} has no {name}"))
    }

    /// Asks whether the password is the account's, and whether the account may log in.
    pub(super) fn check(&self, question: &Question) -> Answer {
        self.asked(question).unwrap_or_else(Answer::Unable)
    }

    fn asked(&self, question: &Question) -> Result<Answer, String> {
        let text = |text: &str| CString::new(text);
        let (Ok(service), Ok(user), Ok(password), Ok(from)) = (
            text(&question.service),
            text(&question.user),
            text(&question.password),
            text(&question.from),
        ) else {
            return Ok(Answer::Refused);
        };
        let told = Told {
            user: user.clone(),
            password,
        };
        let conversation = Conversation {
            talk,
            data: ptr::from_ref(&told).cast_mut().cast(),
        };
        let handle = self.start(question, (&service, &user), &conversation)?;
        let answer = self.steps(handle, &user, &from);
        let end: Symbol<'_, Step> = self.function("pam_end")?;
        // SAFETY: the handle is `pam_start`'s, and is not used after this.
        unsafe { end(handle, SUCCESS) };
        answer
    }

    fn start(
        &self,
        question: &Question,
        (service, user): (&CStr, &CStr),
        conversation: &Conversation,
    ) -> Result<Handle, String> {
        let mut handle: Handle = ptr::null_mut();
        let (service, user) = (service.as_ptr(), user.as_ptr());
        let code = match &question.folder {
            None => {
                let start: Symbol<'_, Start> = self.function("pam_start")?;
                // SAFETY: the texts end with a zero; the conversation lives until `pam_end` has returned.
                unsafe { start(service, user, conversation, &mut handle) }
            }
            Some(folder) => {
                let start: Symbol<'_, StartIn> = self.function("pam_start_confdir")?;
                let folder = CString::new(folder.as_os_str().as_bytes());
                let folder = folder.map_err(|_| "the folder has a zero in its name".to_owned())?;
                // SAFETY: as above.
                unsafe { start(service, user, conversation, folder.as_ptr(), &mut handle) }
            }
        };
        match code == SUCCESS && !handle.is_null() {
            true => Ok(handle),
            false => Err(format!("it does not start (PAM code {code})")),
        }
    }

    fn steps(&self, handle: Handle, user: &CStr, from: &CStr) -> Result<Answer, String> {
        let set: Symbol<'_, SetItem> = self.function("pam_set_item")?;
        let get: Symbol<'_, GetItem> = self.function("pam_get_item")?;
        let flags = SILENT | NO_EMPTY_PASSWORD;
        // SAFETY: the handle is open; PAM copies the text.
        let code = unsafe { set(handle, ITEM_REMOTE_HOST, from.as_ptr().cast()) };
        if code != SUCCESS {
            return self.judged(handle, code);
        }
        for name in ["pam_authenticate", "pam_acct_mgmt"] {
            let step: Symbol<'_, Step> = self.function(name)?;
            // SAFETY: the handle is open.
            let code = unsafe { step(handle, flags) };
            if code != SUCCESS {
                return self.judged(handle, code);
            }
        }
        let mut item: *const c_void = ptr::null();
        // SAFETY: the handle is open; the text is PAM's, and read before anything else is asked of it.
        let code = unsafe { get(handle, ITEM_USER, &mut item) };
        if code != SUCCESS || item.is_null() {
            return Ok(Answer::Refused);
        }
        // SAFETY: PAM's text ends with a zero.
        let accepted = unsafe { CStr::from_ptr(item.cast()) };
        // A module may have made another account of it: whoever is let in is the one who was named.
        Ok(match accepted == user {
            true => Answer::Accepted,
            false => Answer::Refused,
        })
    }

    /// What a code says of the password, or of PAM.
    fn judged(&self, handle: Handle, code: c_int) -> Result<Answer, String> {
        let unable = [
            OPEN_FAILED,
            SYMBOL_MISSING,
            SERVICE_FAILED,
            NO_MEMORY,
            UNAVAILABLE,
            ABORTED,
            MODULE_UNKNOWN,
        ];
        // All else counts as a failed login: `pam_exec` calls a wrong password an error of the system.
        if !unable.contains(&code) {
            return Ok(Answer::Refused);
        }
        let explain: Symbol<'_, Explain> = self.function("pam_strerror")?;
        // SAFETY: the handle is open; the text is a constant of the library that ends with a zero.
        let text = unsafe {
            let text = explain(handle, code);
            match text.is_null() {
                true => String::new(),
                false => CStr::from_ptr(text).to_string_lossy().into_owned(),
            }
        };
        Err(format!(
            "{text} (PAM code {code}); the system's log may say more"
        ))
    }
}

/// Gives the password to whatever asks for something hidden, as other programs do that have asked for it already.
///
/// # Safety
/// Called by PAM, with `count` messages and the data of the conversation.
unsafe extern "C" fn talk(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Some(number) = usize::try_from(count)
        .ok()
        .filter(|_| (1..=MESSAGES).contains(&count))
    else {
        return CONVERSATION_FAILED;
    };
    if messages.is_null() || responses.is_null() || data.is_null() {
        return CONVERSATION_FAILED;
    }
    // SAFETY: the data is what `check` gave, which lives; PAM gives so many pointers to messages, and frees what C's allocator gave.
    unsafe {
        let told = &*data.cast::<Told>();
        let given = libc::calloc(number, size_of::<Response>()).cast::<Response>();
        if given.is_null() {
            return CONVERSATION_FAILED;
        }
        for place in 0..number {
            let message = *messages.add(place);
            let style = if message.is_null() {
                0
            } else {
                (*message).style
            };
            let text = match style {
                ASKS_HIDDEN => libc::strdup(told.password.as_ptr()),
                ASKS_SHOWN => libc::strdup(told.user.as_ptr()),
                _ => ptr::null_mut(),
            };
            (*given.add(place)).text = text;
        }
        *responses = given;
    }
    SUCCESS
}
