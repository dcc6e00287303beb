#include "textflag.h"

// func spawn(cl *cloneArgs, size uintptr, steps *step, n uintptr, out *outcome) uintptr
//
// The child shares the parent's memory and stack until it executes a program,
// so it touches no memory but out, pushes nothing, and calls nothing.
TEXT ·spawn(SB),NOSPLIT,$0-48
	MOVD	cl+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	steps+16(FP), R19
	MOVD	n+24(FP), R20
	MOVD	out+32(FP), R21
	MOVD	$435, R8 // clone3
	SVC
	CBZ	R0, next
	MOVD	R0, ret+40(FP)
	RET

next:
	CBZ	R20, done
	MOVD	0(R19), R8
	MOVD	8(R19), R0
	MOVD	16(R19), R1
	MOVD	24(R19), R2
	MOVD	32(R19), R3
	MOVD	40(R19), R4
	MOVD	48(R19), R5
	SVC
	MOVD	56(R19), R9
	CMP	$1, R9 // mayFail
	BEQ	ok
	CMP	$2, R9 // mustBeZero
	BEQ	zero
	CMN	$4095, R0
	BCS	fail
ok:
	ADD	$64, R19
	SUB	$1, R20
	B	next
zero:
	CBZ	R0, ok
fail:
	MOVD	R19, 0(R21)
	MOVD	R0, 8(R21)
	MOVD	$127, R0
	B	exit
done:
	MOVD	$0, R0
exit:
	MOVD	$94, R8 // exit_group
	SVC
	B	exit
